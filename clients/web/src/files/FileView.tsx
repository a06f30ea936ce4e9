// One file: what it is, and what is in it, as far as a page can show that. Nothing of it runs in this page.
import { type ReactNode, useState } from "react";
import { describeError } from "../api/errors";
import { SHOWN_BYTES, useDeleteFiles, useFileStart, useFileUrl } from "../api/fileQueries";
import { openFile } from "../api/openFile";
import type { RunFile } from "../api/types";
import { formatBytes, formatCount } from "../charts/format";
import { Button, CopyButton } from "../ui/controls";
import { Dialog, DialogActions } from "../ui/dialog";
import { Empty, SkeletonRows } from "../ui/feedback";
import { DownloadIcon, TrashIcon } from "../ui/icons";
import { formatTime } from "../ui/time";
import { type Kind, kindOf, textOf } from "./kind";
import { MediaView } from "./MediaView";
import { Steps } from "./Steps";
import { TextContent } from "./TextContent";
import { timeMsOf } from "./tree";

interface FileViewProps {
  readonly runPath: string;
  readonly name: string;
  /** Undefined: no file of that name is listed. */
  readonly file: RunFile | undefined;
  readonly goTo: (folder: string) => void;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

const TEXT_KINDS: ReadonlySet<Kind> = new Set(["text", "json", "table", "html"]);

export function FileView({ runPath, name, file, goTo, renderError }: FileViewProps) {
  const [failure, setFailure] = useState("");
  const parent = name.slice(0, name.lastIndexOf("/") + 1);
  if (file === undefined) {
    return (
      <div className="files-page wide">
        <Steps path={name} goTo={goTo} isFile />
        <Empty title={`There is no file ${name}`}>
          <p>It may have been removed, or its upload is not complete yet.</p>
          <Button
            onClick={() => {
              goTo(parent);
            }}
          >
            To the folder
          </Button>
        </Empty>
      </div>
    );
  }
  const open = (asAttachment: boolean): void => {
    openFile(runPath, name, asAttachment).then(
      () => {
        setFailure("");
      },
      (error: unknown) => {
        setFailure(describeError(error).detail);
      },
    );
  };
  const timeMs = timeMsOf(file);
  const sha256 = hex(file.sha256);
  return (
    <div className="files-page wide">
      <div className="file-head">
        <Steps path={name} goTo={goTo} isFile />
        <span className="spacer" />
        <Button
          onClick={() => {
            open(true);
          }}
        >
          <DownloadIcon /> Download
        </Button>
        <DeleteFile
          runPath={runPath}
          file={file}
          onDeleted={() => {
            goTo(parent);
          }}
        />
      </div>
      <p className="file-facts muted">
        <span title={`${formatCount(file.sizeBytes)} bytes`}>{formatBytes(file.sizeBytes)}</span>
        <span>{file.contentType}</span>
        {timeMs === null ? null : <time>{formatTime(timeMs)}</time>}
        <span className="file-sha">
          SHA-256 <code>{sha256.slice(0, 12)}…</code>
          <CopyButton text={sha256} label="Copy the SHA-256" />
        </span>
      </p>
      {failure === "" ? null : (
        <p className="files-failure" role="alert">
          {failure}
        </p>
      )}
      <Content runPath={runPath} file={file} sha256={sha256} renderError={renderError} />
    </div>
  );
}

interface ContentProps {
  readonly runPath: string;
  readonly file: RunFile;
  readonly sha256: string;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

function Content({ runPath, file, sha256, renderError }: ContentProps) {
  const kind = kindOf(file);
  const isText = TEXT_KINDS.has(kind);
  const isMedia = !isText && kind !== "binary";
  const start = useFileStart(runPath, file.name, sha256, isText);
  const url = useFileUrl(runPath, file.name, sha256, isMedia);
  if (file.sizeBytes === 0n) return <NoPreview>The file is empty.</NoPreview>;
  if (!isText && !isMedia) return <NoPreview>Files of this kind are not shown here. Download it to open it.</NoPreview>;
  const answer = isText ? start : url;
  if (answer.error !== null) return renderError(answer.error, () => void answer.refetch());
  if (isMedia) return url.data === undefined ? <SkeletonRows count={8} /> : <MediaView kind={kind} url={url.data} name={file.name} />;
  if (start.data === undefined) return <SkeletonRows count={12} height={20} />;
  const text = textOf(start.data);
  if (text === null) return <NoPreview>This is no text. Download it to open it.</NoPreview>;
  const isPart = BigInt(start.data.length) < file.sizeBytes;
  return (
    <>
      {isPart ? (
        <p className="file-part" role="note">
          Only the first {formatBytes(SHOWN_BYTES)} of {formatBytes(file.sizeBytes)} are shown. Download the file to see all of it.
        </p>
      ) : null}
      <TextContent kind={kind} name={file.name} text={text} isPart={isPart} />
    </>
  );
}

function NoPreview({ children }: { children: ReactNode }) {
  return <p className="file-none card">{children}</p>;
}

function DeleteFile({ runPath, file, onDeleted }: { runPath: string; file: RunFile; onDeleted: () => void }) {
  const [isOpen, setOpen] = useState(false);
  const remove = useDeleteFiles(runPath);
  return (
    <>
      <Button
        onClick={() => {
          setOpen(true);
        }}
      >
        <TrashIcon /> Delete
      </Button>
      <Dialog
        isOpen={isOpen}
        onOpenChange={setOpen}
        title="Delete this file?"
        description={
          <>
            <p className="file-doomed">
              <code>{file.name}</code>
            </p>
            <p>{formatBytes(file.sizeBytes)} are removed from the run for good. There is no way back.</p>
          </>
        }
      >
        <DialogActions error={remove.error === null ? "" : describeError(remove.error).detail}>
          <Button
            onClick={() => {
              setOpen(false);
            }}
          >
            Cancel
          </Button>
          <Button
            className="danger filled"
            disabled={remove.isPending}
            onClick={() => {
              remove.mutate([file.name], { onSuccess: onDeleted });
            }}
          >
            Delete
          </Button>
        </DialogActions>
      </Dialog>
    </>
  );
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
