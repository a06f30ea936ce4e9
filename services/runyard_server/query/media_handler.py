"""Turns messages of query.v1 about media into the domain's words and back; decides nothing."""

from __future__ import annotations

from runyard_protos.ingest.v1 import ingest_pb2
from runyard_protos.query.v1 import query_pb2 as pb
from runyard_server.domain.media import MediaKind, MediaValue
from runyard_server.query.media import FoundMedia, MediaAsk, MediaPage, MediaReply, MediaSeries
from runyard_server.query.planner import Selection, Steps


def media_ask(request: pb.QueryMediaRequest) -> MediaAsk:
    """Returns what the message asks for."""
    wanted = request.range
    return MediaAsk(
        run_paths=tuple(request.run_paths),
        names=tuple(request.names),
        steps=Steps(
            first=wanted.first_step if wanted.HasField("first_step") else None,
            last=wanted.last_step if wanted.HasField("last_step") else None,
        ),
        step_count_max=request.step_count_max,
        selection=Selection(
            is_all_attempts=request.attempts == pb.ATTEMPT_SELECTION_ALL,
            writers=tuple(request.writers),
        ),
    )


def media_page(page: MediaPage) -> pb.ListMediaResponse:
    """Returns the message that says it."""
    return pb.ListMediaResponse(
        media=[
            pb.MediaStats(
                name=one.name,
                kind=ingest_pb2.MediaKind.ValueType(one.kind),
                first_step=one.first_step,
                last_step=one.last_step,
                step_count=one.step_count,
            )
            for one in page.media
        ],
        next_page_token=page.next_page_token,
        total_count=page.total_count,
    )


def media_reply(reply: MediaReply) -> pb.QueryMediaResponse:
    """Returns the message that says it."""
    return pb.QueryMediaResponse(series=map(_series, reply.series), is_cut=reply.is_cut)


def _series(one: MediaSeries) -> pb.MediaSeries:
    return pb.MediaSeries(
        run_path=one.run_path,
        name=one.name,
        values=map(_stored, one.values),
        step_count=one.step_count,
        is_sampled=one.is_sampled,
    )


def _stored(found: FoundMedia) -> pb.StoredMedia:
    return pb.StoredMedia(
        writer=found.stored.writer,
        value=_value(found.stored.value),
        file_run_path=found.file_run_path,
    )


def _value(value: MediaValue) -> ingest_pb2.MediaValue:
    message = ingest_pb2.MediaValue(
        sequence=value.sequence,
        name=value.name,
        step=value.step,
        time_unix_ns=value.time_unix_ns,
        kind=ingest_pb2.MediaKind.ValueType(value.kind),
        items_json=value.items_json,
    )
    if value.kind == MediaKind.HISTOGRAM:
        message.histogram.edges.extend(value.histogram.edges)
        message.histogram.counts.extend(value.histogram.counts)
        message.histogram.non_finite_count = value.histogram.non_finite_count
    return message
