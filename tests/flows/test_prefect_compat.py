"""Do the parts of Prefect that it does not document still work as flows/prefect_compat.py expects?"""

import contextvars
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.artifacts import MarkdownArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.exceptions import Abort
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows import prefect_compat
from flows.prefect_compat import STOPPED
from flows.worker_process import ENGINE


def test_the_embedded_server_has_an_api_and_no_ui(api: str) -> None:
    assert httpx.get(f"{api}/health").text == "true"
    assert httpx.get(api.removesuffix("api")).status_code == 404


def test_a_workers_command_names_the_engine() -> None:
    assert ENGINE in ProcessJobConfiguration._base_flow_run_command().encode()


def test_a_work_pools_template_takes_a_directory() -> None:
    template = ProcessWorker.get_default_base_job_template()
    prefect_compat.set_working_dir(template, Path("/here"))
    assert template["variables"]["properties"]["working_dir"]["default"] == "/here"
    assert template["job_configuration"]["working_dir"] == "{{ working_dir }}"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, also where a shell started the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("api")
class TestFlows:
    def test_a_flow_runs_under_a_name_and_its_result_is_kept(self) -> None:
        @flow
        def doubles(config: int) -> int:
            return 2 * config

        state, result = prefect_compat.call_flow(doubles, "mine", 4)
        assert (state.name, result) == ("Completed", 8)
        assert state.state_details.flow_run_id
        with get_client(sync_client=True) as client:
            assert client.read_flow_run(state.state_details.flow_run_id).name == "mine"

    def test_a_failure_is_the_result(self) -> None:
        @flow
        def fails(config: int) -> object:
            return Failed(message=f"{config} is wrong", data=ValueError(config))

        state, result = prefect_compat.call_flow(fails, "mine", 4)
        assert (state.name, type(result)) == ("Failed", ValueError)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_interrupts_a_flow(self, number: signal.Signals, interruptible: None) -> None:
        @flow
        def waits() -> int:
            try:
                signal.raise_signal(number)
            except STOPPED as stopped:
                return prefect_compat.signal_of(stopped)
            return 0

        assert waits() == number

    def test_a_flow_run_that_is_abandoned_keeps_its_state(self) -> None:
        ids: list[UUID] = []

        @flow
        def ends() -> None:
            ids.append(UUID(flow_run.id))
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(ids[0], Completed(name="Put back"), force=True)
            prefect_compat.end_process("put back")

        with pytest.raises(Abort, match="put back"):
            ends()
        with get_client(sync_client=True) as client:
            assert client.read_flow_run(ids[0]).state_name == "Put back"

    def test_an_artifact_is_created_from_a_thread(self) -> None:
        found: list[UUID] = []

        @flow
        def shows() -> None:
            context = contextvars.copy_context()  # has the flow run and the API's address
            thread = threading.Thread(target=context.run, args=(create,))
            thread.start()
            thread.join()

        def create() -> None:
            found.append(prefect_compat.create_artifact(MarkdownArtifact(key="sign", markdown="hello")))

        shows()
        with get_client(sync_client=True) as client:
            assert found[0] in [artifact.id for artifact in client.read_artifacts()]

    @pytest.mark.parametrize("name", ["gan.training.loop", "flows.tasks"])
    def test_pending_logs_of_both_packages_are_sent(self, name: str) -> None:
        @flow
        def says() -> str:
            logging.getLogger(name).warning("something to read")
            return str(flow_run.id)

        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(says())]))
        prefect_compat.send_pending(timeout_seconds=5)
        with get_client(sync_client=True) as client:
            assert (name, "something to read") in [(log.name, log.message) for log in client.read_logs(wanted)]
