// The files of a run: what run.save() kept, with links to their bytes.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useState } from "react";
import { describeError } from "../api/errors";
import { openFile } from "../api/openFile";
import { useFiles } from "../api/queries";
import { type RunFile, timestampMs } from "../api/types";
import { formatBytes, formatCount } from "../charts/format";
import { IconButton, SearchInput } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { DownloadIcon, FileIcon } from "../ui/icons";
import { formatAgo, formatTime, useNow } from "../ui/time";
import { useDelayed, useView } from "../ui/view";
import "./files.css";

interface FileListProps {
  readonly runPath: string;
  readonly isRunning: boolean;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

const ROW_HEIGHT = 32;

export function FileList({ runPath, isRunning, renderError }: FileListProps) {
  const answer = useFiles(runPath, isRunning);
  const [view, change] = useView();
  const filter = view.get("q") ?? "";
  const [text, setText] = useDelayed(filter, (q) => {
    change({ q });
  });
  const [failure, setFailure] = useState("");
  const files = answer.data?.files;
  const shown = useMemo(
    () => files?.filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase())) ?? [],
    [files, filter],
  );
  if (answer.error !== null && answer.data === undefined) return renderError(answer.error, () => void answer.refetch());
  if (files?.length === 0) {
    return (
      <Empty title="No files">
        <p>{isRunning ? "Files appear here as they are uploaded." : "This run saved no files."} A script keeps one so:</p>
        <pre className="card sample">run.save("model.pt")</pre>
      </Empty>
    );
  }
  const open = (name: string, asAttachment: boolean): void => {
    openFile(runPath, name, asAttachment).then(
      () => {
        setFailure("");
      },
      (error: unknown) => {
        setFailure(`${name}: ${describeError(error).detail}`);
      },
    );
  };
  return (
    <div className="files-page">
      <div className="files-head">
        <SearchInput label="Filter files" text={text} onText={setText} hasShortcut />
        <span className="muted">
          {answer.data === undefined ? "" : `${formatCount(answer.data.totalCount)} files · ${formatBytes(answer.data.totalBytes)}`}
          {files !== undefined && answer.data !== undefined && BigInt(files.length) < answer.data.totalCount
            ? ` · the first ${formatCount(files.length)} are listed`
            : ""}
        </span>
      </div>
      {failure === "" ? null : (
        <p className="files-failure" role="alert">
          {failure}
        </p>
      )}
      {files === undefined ? (
        <SkeletonRows count={6} height={ROW_HEIGHT} />
      ) : shown.length === 0 ? (
        <p className="nothing">No file's name contains “{filter}”.</p>
      ) : (
        <Rows files={shown} open={open} />
      )}
    </div>
  );
}

function Rows({ files, open }: { files: readonly RunFile[]; open: (name: string, asAttachment: boolean) => void }) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const now = useNow(10_000);
   
  const virtual = useVirtualizer({
    count: files.length,
    getScrollElement: () => scroll,
    estimateSize: () => ROW_HEIGHT,
    overscan: 10,
  });
  return (
    <div className="files-rows card" ref={setScroll} style={{ flexBasis: files.length * ROW_HEIGHT + 2 }}>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const file = files[index];
          if (file === undefined) return null;
          const timeMs = file.updateTime === undefined ? null : timestampMs(file.updateTime);
          return (
            <div key={file.name} className="file-row" style={{ transform: `translateY(${start}px)`, height: ROW_HEIGHT }}>
              <FileIcon />
              <button
                type="button"
                className="file-name cut"
                title={`${file.name}\n${file.contentType}`}
                onClick={() => {
                  open(file.name, false);
                }}
              >
                {file.name}
              </button>
              <span className="number" title={`${formatCount(file.sizeBytes)} bytes`}>
                {formatBytes(file.sizeBytes)}
              </span>
              <span className="number muted" title={timeMs === null ? "" : formatTime(timeMs)}>
                {timeMs === null ? "–" : formatAgo(timeMs, now)}
              </span>
              <IconButton
                label={`Download ${file.name}`}
                onClick={() => {
                  open(file.name, true);
                }}
              >
                <DownloadIcon />
              </IconButton>
            </div>
          );
        })}
      </div>
    </div>
  );
}
