"""Turns messages of metadata.v1 into the domain's words and back; decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from runyard_protos.metadata.v1 import metadata_pb2 as pb
from runyard_protos.metadata.v1 import metadata_pb2_grpc as pb_grpc
from runyard_server.domain.beats import MonitorReplica
from runyard_server.domain.errors import InvalidArgument
from runyard_server.domain.purges import Purge
from runyard_server.domain.run import DEFAULT_ENTITY, DEFAULT_PROJECT, RunDocument, RunKey
from runyard_server.metadata.deletions import Refusal
from runyard_server.metadata.notices import Notice
from runyard_server.metadata.project_settings import ProjectEdit
from runyard_server.metadata.requests import (
    Alert,
    FinishRun,
    RecordEvent,
    RecordTransition,
    ResumeMode,
    RunChange,
    RunEdit,
    StartRun,
)
from runyard_server.metadata.stops import StopWish
from runyard_server.rpc import (
    life_messages,
    message_values,
    project_messages,
    purge_messages,
    run_messages,
)

if TYPE_CHECKING:
    from runyard_server.metadata.service import MetadataService

_FULL_NAME = "runyard.metadata.v1.MetadataService"
_RESUME_MODES = {
    pb.RESUME_MODE_UNSPECIFIED: ResumeMode.ALLOW,
    pb.RESUME_MODE_ALLOW: ResumeMode.ALLOW,
    pb.RESUME_MODE_MUST: ResumeMode.MUST,
    pb.RESUME_MODE_NEVER: ResumeMode.NEVER,
}
_EDITABLE = ("display_name", "notes", "tags", "group", "job_type", "config_json")


class MetadataHandler(pb_grpc.MetadataServiceServicer):
    """Answers the RPCs of MetadataService; see the proto for what each promises."""

    def __init__(self, service: MetadataService) -> None:
        self._service = service

    def register(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Adds itself to the server and returns the full names it serves."""
        pb_grpc.add_MetadataServiceServicer_to_server(self, server)
        return (_FULL_NAME,)

    async def StartRun(self, request: pb.StartRunRequest, context: Any) -> pb.StartRunResponse:
        started = await self._service.start_run(_start_run(request))
        return pb.StartRunResponse(
            run=self._run(started.run),
            writer=started.writer.writer,
            attempt=started.writer.attempt,
            is_resumed=started.writer.is_resumed,
            attempt_first_writer=started.attempt_first_writer,
        )

    async def ApplyRunChanges(
        self, request: pb.ApplyRunChangesRequest, context: Any
    ) -> pb.ApplyRunChangesResponse:
        applied_sequence = await self._service.apply_changes(
            RunKey(request.run_key),
            request.writer,
            [_run_change(change) for change in request.changes],
        )
        return pb.ApplyRunChangesResponse(applied_sequence=applied_sequence)

    async def FinishRun(self, request: pb.FinishRunRequest, context: Any) -> pb.FinishRunResponse:
        document = await self._service.finish_run(
            FinishRun(
                run_key=RunKey(request.run_key),
                writer=request.writer,
                last_sequence=request.last_sequence,
                exit_code=request.exit_code if request.HasField("exit_code") else None,
                cause=message_values.cause_from_number(request.cause, field="cause"),
                evidence=request.evidence,
                end_time_unix_ns=message_values.optional_unix_ns(request, "end_time"),
                exception=life_messages.exception_from_message(request.exception)
                if request.HasField("exception")
                else None,
                is_correction=request.is_correction,
                records_refused=request.records_refused,
            )
        )
        return pb.FinishRunResponse(run=self._run(document))

    async def RecordTransition(
        self, request: pb.RecordTransitionRequest, context: Any
    ) -> pb.RecordTransitionResponse:
        ask = RecordTransition(
            run_key=RunKey(request.run_key),
            from_state=message_values.state_from_number(getattr(request, "from"), field="from"),
            to_state=message_values.state_from_number(request.to, field="to"),
            cause=message_values.cause_from_number(request.cause, field="cause"),
            evidence=request.evidence,
            actor=request.actor,
            attempt_count=request.attempt_count,
            end_time_unix_ns=message_values.optional_unix_ns(request, "end_time"),
        )
        is_applied, document = await self._service.record_transition(ask)
        return pb.RecordTransitionResponse(
            is_applied=is_applied, state=message_values.state_to_number(document.state)
        )

    async def RecordHeartbeats(
        self, request: pb.RecordHeartbeatsRequest, context: Any
    ) -> pb.RecordHeartbeatsResponse:
        await self._service.record_heartbeats(
            [
                (RunKey(beat.run_key), message_values.unix_ns_from_timestamp(beat.heartbeat_time))
                for beat in request.heartbeats
            ]
        )
        return pb.RecordHeartbeatsResponse()

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.GetRunResponse:
        named_by = request.WhichOneof("run")
        if named_by is None:
            raise InvalidArgument(
                "FIELD_INVALID",
                "neither path nor run_key is set; name the run by one of them",
                metadata={"field": "run"},
            )
        document = await self._service.get_run(
            path=request.path if named_by == "path" else None,
            run_key=RunKey(request.run_key) if named_by == "run_key" else None,
        )
        return pb.GetRunResponse(run=self._run(document))

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Any) -> pb.UpdateRunResponse:
        document = await self._service.edit_run(request.run.path, _run_edit(request))
        return pb.UpdateRunResponse(run=self._run(document))

    async def ListRunTransitions(
        self, request: pb.ListRunTransitionsRequest, context: Any
    ) -> pb.ListRunTransitionsResponse:
        transitions, token = await self._service.list_transitions(
            request.run_path, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListRunTransitionsResponse(
            transitions=[message_values.transition_to_message(t) for t in transitions],
            next_page_token=token,
        )

    async def ListRunEvents(
        self, request: pb.ListRunEventsRequest, context: Any
    ) -> pb.ListRunEventsResponse:
        events, token = await self._service.list_events(
            request.run_path, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListRunEventsResponse(
            events=[life_messages.event_to_message(event) for event in events],
            next_page_token=token,
        )

    async def RecordRunEvent(
        self, request: pb.RecordRunEventRequest, context: Any
    ) -> pb.RecordRunEventResponse:
        ask = RecordEvent(
            run_key=RunKey(request.run_key),
            kind=life_messages.kind_from_number(request.kind, field="kind"),
            evidence=request.evidence,
            actor=request.actor,
            attempt_count=request.attempt_count,
            writer=request.writer,
            since_unix_ns=message_values.optional_unix_ns(request, "since_time"),
        )
        return pb.RecordRunEventResponse(is_applied=await self._service.record_run_event(ask))

    async def ListRunWriters(
        self, request: pb.ListRunWritersRequest, context: Any
    ) -> pb.ListRunWritersResponse:
        is_by_key = request.WhichOneof("run") == "run_key"
        writers, token = await self._service.list_writers(
            path=None if is_by_key else request.run_path,
            run_key=RunKey(request.run_key) if is_by_key else None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRunWritersResponse(
            writers=[life_messages.writer_to_message(writer) for writer in writers],
            next_page_token=token,
        )

    async def ListRunAttempts(
        self, request: pb.ListRunAttemptsRequest, context: Any
    ) -> pb.ListRunAttemptsResponse:
        attempts = await self._service.list_attempts(request.run_path)
        return pb.ListRunAttemptsResponse(
            attempts=[life_messages.attempt_to_message(attempt) for attempt in attempts]
        )

    async def RequestStop(
        self, request: pb.RequestStopRequest, context: Any
    ) -> pb.RequestStopResponse:
        document = await self._service.request_stop(
            StopWish(
                path=request.run_path,
                grace_s=message_values.optional_duration_s(request, "grace"),
                may_kill=request.may_kill,
                reason=request.reason,
                requested_by=request.requested_by,
            )
        )
        return pb.RequestStopResponse(run=self._run(document))

    async def RecordStopStage(
        self, request: pb.RecordStopStageRequest, context: Any
    ) -> pb.RecordStopStageResponse:
        document = await self._service.record_stop_stage(
            RunKey(request.run_key),
            request.writer,
            life_messages.stage_from_number(request.stage, field="stage"),
            request.evidence,
        )
        return pb.RecordStopStageResponse(state=message_values.state_to_number(document.state))

    async def ListStopRequests(
        self, request: pb.ListStopRequestsRequest, context: Any
    ) -> pb.ListStopRequestsResponse:
        documents, token = await self._service.list_open_stops(
            page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListStopRequestsResponse(
            stop_requests=[
                pb.StopRequest(run_key=d.run_key, stop=life_messages.stop_to_message(d.stop))
                for d in documents
            ],
            next_page_token=token,
        )

    async def RenewMonitorReplica(
        self, request: pb.RenewMonitorReplicaRequest, context: Any
    ) -> pb.RenewMonitorReplicaResponse:
        living = await self._service.renew_replica(
            MonitorReplica(request.replica_id, request.address),
            lease_s=message_values.optional_duration_s(request, "lease") or 0.0,
            is_leaving=request.is_leaving,
        )
        return pb.RenewMonitorReplicaResponse(
            replicas=[
                pb.MonitorReplica(replica_id=one.replica_id, address=one.address) for one in living
            ]
        )

    async def LeaseNotifications(
        self, request: pb.LeaseNotificationsRequest, context: Any
    ) -> pb.LeaseNotificationsResponse:
        found = await self._service.lease_notices(
            limit=request.limit,
            lease_s=message_values.optional_duration_s(request, "lease") or 0.0,
        )
        return pb.LeaseNotificationsResponse(
            notifications=[_notice(notice, with_secret=True) for notice in found]
        )

    async def ReportNotifications(
        self, request: pb.ReportNotificationsRequest, context: Any
    ) -> pb.ReportNotificationsResponse:
        reports = [project_messages.report_from_message(report) for report in request.reports]
        await self._service.report_notifications(reports)
        return pb.ReportNotificationsResponse()

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: Any
    ) -> pb.ListNotificationsResponse:
        states = frozenset(
            project_messages.notification_state_from_number(state, field="states")
            for state in request.states
        )
        found, token = await self._service.list_notifications(
            request.project_path,
            states,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListNotificationsResponse(
            notifications=[_notice(notice, with_secret=False) for notice in found],
            next_page_token=token,
        )

    async def UpdateProject(
        self, request: pb.UpdateProjectRequest, context: Any
    ) -> pb.UpdateProjectResponse:
        project = await self._service.update_project(
            ProjectEdit(
                path=request.project.path,
                paths=frozenset(request.update_mask.paths),
                description=request.project.description,
                settings=project_messages.settings_from_message(request.project.settings),
            )
        )
        return pb.UpdateProjectResponse(project=project_messages.project_to_message(project))

    async def DeleteRuns(
        self, request: pb.DeleteRunsRequest, context: Any
    ) -> pb.DeleteRunsResponse:
        results = await self._service.trash.delete_runs(
            list(request.run_paths), is_now=request.is_now, requested_by=request.requested_by
        )
        return pb.DeleteRunsResponse(
            deleted_runs=[
                purge_messages.purge_to_message(one) for one in results if isinstance(one, Purge)
            ],
            refusals=[_refusal(one) for one in results if isinstance(one, Refusal)],
        )

    async def RestoreRuns(
        self, request: pb.RestoreRunsRequest, context: Any
    ) -> pb.RestoreRunsResponse:
        restored, refusals = await self._service.trash.restore_runs(
            list(request.run_paths), requested_by=request.requested_by
        )
        return pb.RestoreRunsResponse(
            run_paths=restored, refusals=[_refusal(one) for one in refusals]
        )

    async def ListDeletedRuns(
        self, request: pb.ListDeletedRunsRequest, context: Any
    ) -> pb.ListDeletedRunsResponse:
        purges, token = await self._service.trash.list_deleted_runs(
            request.project_path,
            is_with_purged=request.is_with_purged,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListDeletedRunsResponse(
            deleted_runs=[purge_messages.purge_to_message(one) for one in purges],
            next_page_token=token,
        )

    async def ListLiveRuns(
        self, request: pb.ListLiveRunsRequest, context: Any
    ) -> pb.ListLiveRunsResponse:
        live_runs, token = await self._service.list_live_runs(
            page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListLiveRunsResponse(
            runs=[run_messages.live_run_to_message(run) for run in live_runs],
            next_page_token=token,
        )

    async def CreateProject(
        self, request: pb.CreateProjectRequest, context: Any
    ) -> pb.CreateProjectResponse:
        project = await self._service.create_project(
            request.entity or DEFAULT_ENTITY, request.name, request.description
        )
        return pb.CreateProjectResponse(project=project_messages.project_to_message(project))

    async def GetProject(
        self, request: pb.GetProjectRequest, context: Any
    ) -> pb.GetProjectResponse:
        project = await self._service.get_project(request.path)
        return pb.GetProjectResponse(project=project_messages.project_to_message(project))

    async def ListProjects(
        self, request: pb.ListProjectsRequest, context: Any
    ) -> pb.ListProjectsResponse:
        found, token = await self._service.list_projects(
            request.entity, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListProjectsResponse(
            projects=[
                project_messages.project_to_message(project, with_settings=False)
                for project in found
            ],
            next_page_token=token,
        )

    def _run(self, document: RunDocument) -> pb.Run:
        return run_messages.run_to_message(document, now_unix_ns=self._service.now_unix_ns())


def _refusal(refusal: Refusal) -> pb.RunRefusal:
    return pb.RunRefusal(run_path=refusal.path, reason=refusal.reason, message=refusal.message)


def _notice(notice: Notice, *, with_secret: bool) -> pb.Notification:
    return project_messages.notification_to_message(
        notice.notification,
        notice.event,
        notice.run,
        notice.target,
        with_secret=with_secret,
    )


def _start_run(request: pb.StartRunRequest) -> StartRun:
    resume = _RESUME_MODES.get(request.resume)
    if resume is None:
        raise InvalidArgument(
            "FIELD_INVALID",
            f"resume is {request.resume}, which is no value of ResumeMode",
            metadata={"field": "resume", "value": request.resume},
        )
    return StartRun(
        request_id=request.request_id,
        entity=request.entity or DEFAULT_ENTITY,
        project=request.project or DEFAULT_PROJECT,
        run_id=request.run_id,
        display_name=request.display_name,
        resume=resume,
        config_json=request.config_json,
        notes=request.notes,
        tags=tuple(request.tags),
        group=request.group,
        job_type=request.job_type,
        start_time_unix_ns=message_values.optional_unix_ns(request, "start_time"),
        host=run_messages.host_from_message(request.host),
        writer_label=request.writer_label,
        identity=life_messages.identity_from_message(request.identity),
        rewind_to_step=request.rewind_to_step if request.HasField("rewind_to_step") else None,
        fork=life_messages.fork_from_message(request.fork) if request.HasField("fork") else None,
    )


def _run_change(change: pb.RunChange) -> RunChange:
    definition = None
    if change.HasField("metric_definition"):
        definition = run_messages.definition_from_message(change.metric_definition)
    return RunChange(
        sequence=change.sequence,
        config_set_json=change.config_set_json,
        config_removed_keys=tuple(change.config_removed_keys),
        metric_definition=definition,
        display_name=change.display_name if change.HasField("display_name") else None,
        notes=change.notes if change.HasField("notes") else None,
        tags=tuple(change.tags.tags) if change.HasField("tags") else None,
        alert=_alert(change.alert) if change.HasField("alert") else None,
        preemption_notice=change.preemption_notice
        if change.HasField("preemption_notice")
        else None,
        host_facts_json=change.host_facts_json,
    )


def _alert(message: pb.Alert) -> Alert:
    return Alert(
        title=message.title,
        text=message.text,
        level=life_messages.level_from_number(message.level, field="changes.alert.level"),
        wait_s=message_values.optional_duration_s(message, "wait_duration") or 0.0,
    )


def _run_edit(request: pb.UpdateRunRequest) -> RunEdit:
    paths = set(request.update_mask.paths)
    wrong = sorted(paths - set(_EDITABLE))
    if wrong or not paths:
        problem = f"names {wrong[0][:256]!r}" if wrong else "is empty"
        raise InvalidArgument(
            "FIELD_INVALID",
            f"update_mask {problem}; it may name {', '.join(_EDITABLE)}",
            metadata={"field": "update_mask", "value": wrong[0][:256] if wrong else ""},
        )
    run = request.run
    return RunEdit(
        display_name=run.display_name if "display_name" in paths else None,
        notes=run.notes if "notes" in paths else None,
        tags=tuple(run.tags) if "tags" in paths else None,
        group=run.group if "group" in paths else None,
        job_type=run.job_type if "job_type" in paths else None,
        config_json=run.config_json if "config_json" in paths else None,
    )
