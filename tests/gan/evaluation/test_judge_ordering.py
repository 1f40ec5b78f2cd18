"""Does the distance of a judge without labels grow with each degradation, and not by the way of measuring?"""

import pytest

from benchmarks.judge_ordering import LEVELS, is_control_ordered, is_ordered, measure, rank_correlation
from gan.evaluation.evaluator import Evaluator
from gan.evaluation.judge import load_judge
from gan.evaluation.judge_training import train_judge
from tests.support.digits import mnist, without_labels


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    data, folder = without_labels(mnist(num_train=2500, num_test=400)), tmp_path_factory.mktemp("set") / "judge"
    train_judge(data, folder)
    return Evaluator(data, judge=load_judge(folder))


@pytest.mark.parametrize("kind", LEVELS)
def test_a_random_network_orders_degradations_and_a_permuted_one_does_not(evaluator: Evaluator, kind: str) -> None:
    found = [measure(evaluator, kind, 400, seed) for seed in range(2)]
    assert is_ordered(found), found
    assert not is_control_ordered(found), found
    assert all(each.distances[-1] > 2 * each.floor for each in found)


def test_a_rank_correlation_is_that_of_the_places() -> None:
    found = [rank_correlation(values) for values in ([1, 5, 8, 9, 100], [5, 4, 3, 2, 1], [2, 1, 3, 4, 5])]
    assert found == [1, -1, 0.9]
