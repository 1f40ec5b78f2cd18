"""Is no test of the GPU left out where GAN_TEST_GPU=1 says that there is one?"""

from types import SimpleNamespace

import pytest

from tests import conftest


@pytest.fixture
def collected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[pytest.Item]:
    """Return a test of the GPU and one of Docker, on a machine that has neither."""
    needs = {"gpu": (False, "there is no usable GPU"), "e2e": (False, "no Docker engine answers")}
    monkeypatch.setattr(conftest, "_needs", lambda: needs)
    monkeypatch.setattr(conftest, "left_out", {})
    tests = [pytest.Function.from_parent(request.node.parent, name=marker, callobj=lambda: None) for marker in needs]
    for test in tests:
        test.add_marker(test.name)
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    option = SimpleNamespace(markexpr="e2e", long=False)
    conftest.pytest_collection_modifyitems(SimpleNamespace(hook=hook, option=option), tests)
    return tests


def test_a_test_of_the_gpu_is_left_out_without_one(collected: list[pytest.Item]) -> None:
    assert collected == []
    assert conftest.left_out == {"gpu tests: there is no usable GPU": 1, "e2e tests: no Docker engine answers": 1}


@pytest.fixture
def there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_TEST_GPU", "1")


def test_it_fails_instead_where_a_gpu_is_expected(there_is_a_gpu: None, collected: list[pytest.Item]) -> None:
    assert [test.name for test in collected] == ["gpu"]
    with pytest.raises(pytest.fail.Exception, match="GAN_TEST_GPU=1, and this test cannot run: gpu tests: there is no"):
        conftest.pytest_runtest_setup(collected[0])
    assert conftest.left_out == {"e2e tests: no Docker engine answers": 1}
