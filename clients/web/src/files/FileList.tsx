// The files of a run: what run.save() kept, one folder at a time, and a file's own page.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useState } from "react";
import { describeError } from "../api/errors";
import { openFile } from "../api/openFile";
import { useFiles } from "../api/queries";
import type { RunFile } from "../api/types";
import { formatBytes, formatCount } from "../charts/format";
import { IconButton, SearchInput } from "../ui/controls";
import { Empty, SkeletonRows } from "../ui/feedback";
import { DownloadIcon, FileIcon, FolderIcon } from "../ui/icons";
import { formatAgo, formatTime, useNow } from "../ui/time";
import { useDelayed, useView } from "../ui/view";
import { FileView } from "./FileView";
import { Steps } from "./Steps";
import { type Entry, findFiles, type Folder, listFolder } from "./tree";
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
  const folder = view.get("folder") ?? "";
  const opened = view.get("file");
  const [text, setText] = useDelayed(filter, (q) => {
    change({ q });
  });
  const [failure, setFailure] = useState("");
  const files = answer.data?.files;
  const listing = useMemo(
    () => (filter === "" ? listFolder(files ?? [], folder) : { folders: [], files: findFiles(files ?? [], folder, filter) }),
    [files, folder, filter],
  );
  if (answer.error !== null && answer.data === undefined) return renderError(answer.error, () => void answer.refetch());
  if (files === undefined || answer.data === undefined) return <SkeletonRows count={6} height={ROW_HEIGHT} />;
  const goTo = (path: string): void => {
    change({ folder: path, file: null, q: null }, true);
  };
  if (opened !== null) {
    const file = files.find(({ name }) => name === opened);
    return <FileView key={opened} runPath={runPath} name={opened} file={file} goTo={goTo} renderError={renderError} />;
  }
  if (files.length === 0) {
    return (
      <Empty title="No files">
        <p>{isRunning ? "Files appear here as they are uploaded." : "This run saved no files."} A script keeps one so:</p>
        <pre className="card sample">run.save("model.pt")</pre>
      </Empty>
    );
  }
  const download = (name: string): void => {
    openFile(runPath, name, true).then(
      () => {
        setFailure("");
      },
      (error: unknown) => {
        setFailure(`${name}: ${describeError(error).detail}`);
      },
    );
  };
  const isPart = BigInt(files.length) < answer.data.totalCount;
  return (
    <div className="files-page">
      <div className="files-head">
        <SearchInput label={folder === "" ? "Find files" : "Find files in this folder"} text={text} onText={setText} hasShortcut />
        <span className="muted">
          {`${formatCount(answer.data.totalCount)} ${answer.data.totalCount === 1n ? "file" : "files"} · ${formatBytes(answer.data.totalBytes)}`}
          {isPart ? ` · the first ${formatCount(files.length)} are listed` : ""}
        </span>
      </div>
      <Steps path={folder} goTo={goTo} />
      {failure === "" ? null : (
        <p className="files-failure" role="alert">
          {failure}
        </p>
      )}
      {listing.folders.length + listing.files.length > 0 ? (
        <Rows
          folders={listing.folders}
          files={listing.files}
          goTo={goTo}
          open={(file) => {
            change({ file: file.name }, true);
          }}
          download={download}
        />
      ) : (
        <p className="nothing">{filter === "" ? `There is no folder ${folder}.` : `No file's name contains “${filter}”.`}</p>
      )}
    </div>
  );
}

interface RowsProps {
  readonly folders: readonly Folder[];
  readonly files: readonly Entry[];
  readonly goTo: (folder: string) => void;
  readonly open: (file: RunFile) => void;
  readonly download: (name: string) => void;
}

function Rows({ folders, files, goTo, open, download }: RowsProps) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const now = useNow(10_000);
  const count = folders.length + files.length;
  const virtual = useVirtualizer({
    count,
    getScrollElement: () => scroll,
    estimateSize: () => ROW_HEIGHT,
    overscan: 10,
  });
  return (
    <div className="files-rows card" ref={setScroll} style={{ flexBasis: count * ROW_HEIGHT + 2 }}>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const style = { transform: `translateY(${start}px)`, height: ROW_HEIGHT };
          const folder = folders[index];
          if (folder !== undefined) {
            return (
              <div key={folder.path} className="file-row" style={style}>
                <FolderIcon />
                <NameButton
                  label={folder.label}
                  title={folder.path}
                  onClick={() => {
                    goTo(folder.path);
                  }}
                >
                  <span className="muted file-count">{`${formatCount(folder.count)} ${folder.count === 1 ? "file" : "files"}`}</span>
                </NameButton>
                <Facts bytes={folder.bytes} timeMs={folder.newestMs} now={now} />
              </div>
            );
          }
          const entry = files[index - folders.length];
          if (entry === undefined) return null;
          const { file, label, timeMs } = entry;
          return (
            <div key={file.name} className="file-row" style={style}>
              <FileIcon />
              <NameButton
                label={label}
                title={`${file.name}\n${file.contentType}`}
                onClick={() => {
                  open(file);
                }}
              />
              <Facts bytes={file.sizeBytes} timeMs={timeMs} now={now} />
              <IconButton
                label={`Download ${file.name}`}
                onClick={() => {
                  download(file.name);
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

function NameButton({ label, title, onClick, children }: { label: string; title: string; onClick: () => void; children?: ReactNode }) {
  return (
    <button type="button" className="file-name" title={title} onClick={onClick}>
      <span className="cut">{label}</span>
      {children}
    </button>
  );
}

function Facts({ bytes, timeMs, now }: { bytes: bigint; timeMs: number | null; now: number }) {
  return (
    <>
      <span className="number" title={`${formatCount(bytes)} bytes`}>
        {formatBytes(bytes)}
      </span>
      <span className="number muted" title={timeMs === null ? "" : formatTime(timeMs)}>
        {timeMs === null ? "–" : formatAgo(timeMs, now)}
      </span>
    </>
  );
}
