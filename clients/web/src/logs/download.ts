// Writes a run's log into a file of the reader's machine, page after page, as plain text.
import { type ConsoleLine, type LineFilter, type LinesAsk, type LinesPage, listConsoleLines } from "../api/console";
import { stripAnsi } from "./ansi";
import { formatStamp } from "./times";

export interface DownloadAsk {
  readonly runPath: string;
  readonly filter: LineFilter;
  readonly hasTimes: boolean;
  /** Names of writers that stand before their lines; null: none do. */
  readonly labels: ReadonlyMap<number, string> | null;
}

export interface DownloadProgress {
  readonly lineCount: number;
  readonly bytes: number;
}

export interface TextSink {
  readonly write: (text: Uint8Array<ArrayBuffer>) => Promise<void>;
  readonly close: () => Promise<void>;
  readonly abort: () => Promise<void>;
  /** Bytes that it can take. */
  readonly bytesMax: number;
}

/** Without access to files the text is held in memory until it is whole. */
export const BLOB_BYTES_MAX = 512 * 1024 * 1024;
const PAGE_SIZE = 10_000;

interface FileHandle {
  readonly createWritable: () => Promise<{ write: (text: Uint8Array<ArrayBuffer>) => Promise<void>; close: () => Promise<void>; abort: () => Promise<void> }>;
}
interface WithFilePicker {
  readonly showSaveFilePicker?: (options: { suggestedName: string }) => Promise<FileHandle>;
}

/** Where the text goes: a file that the reader chooses, or, where the browser has no such thing, a download. Null: given up. */
export async function openSink(name: string): Promise<TextSink | null> {
  const { showSaveFilePicker } = window as WithFilePicker;
  if (showSaveFilePicker === undefined) return blobSink(name);
  try {
    const file = await (await showSaveFilePicker.call(window, { suggestedName: name })).createWritable();
    return { write: (text) => file.write(text), close: () => file.close(), abort: () => file.abort(), bytesMax: Infinity };
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return null;
    // A frame or a policy may forbid it.
    return blobSink(name);
  }
}

function blobSink(name: string): TextSink {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  return {
    bytesMax: BLOB_BYTES_MAX,
    write: (text) => {
      parts.push(text);
      return Promise.resolve();
    },
    abort: () => Promise.resolve(),
    close: () => {
      const address = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
      const link = document.createElement("a");
      link.href = address;
      link.download = name;
      link.click();
      setTimeout(() => {
        URL.revokeObjectURL(address);
      }, 60_000);
      return Promise.resolve();
    },
  };
}

/** Writes all lines into the sink; true if it had to end before the last one. A signal that is given up ends it with an error. */
export async function writeLog(
  ask: DownloadAsk,
  sink: TextSink,
  onProgress: (progress: DownloadProgress) => void,
  signal: AbortSignal,
  list: (ask: LinesAsk, signal: AbortSignal) => Promise<LinesPage> = listConsoleLines,
): Promise<boolean> {
  const encoder = new TextEncoder();
  let pageToken = "";
  let lineCount = 0;
  let bytes = 0;
  try {
    do {
      const page = await list({ runPath: ask.runPath, filter: ask.filter, isNewestFirst: false, pageSize: PAGE_SIZE, pageToken }, signal);
      signal.throwIfAborted();
      const text = encoder.encode(page.lines.map((line) => lineText(line, ask)).join(""));
      if (bytes + text.length > sink.bytesMax) {
        await sink.close();
        return true;
      }
      await sink.write(text);
      lineCount += page.lines.length;
      bytes += text.length;
      onProgress({ lineCount, bytes });
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  } catch (error) {
    await sink.abort();
    throw error;
  }
  await sink.close();
  return false;
}

function lineText(line: ConsoleLine, { hasTimes, labels }: DownloadAsk): string {
  const time = hasTimes ? `${formatStamp(line.timeMs)}  ` : "";
  const label = labels === null ? "" : `${labels.get(line.writer) ?? `writer ${line.writer}`}: `;
  return `${time}${label}${stripAnsi(line.text)}\n`;
}
