// Folders of a run's files: names hold the folders, a page shows one folder at a time.
import type { RunFile } from "../api/types";

export interface Folder {
  /** Last part of the name. */
  readonly label: string;
  /** Whole name, with the / at its end. */
  readonly path: string;
  readonly count: number;
  readonly bytes: bigint;
  /** When the newest of its files came; null if no file says. */
  readonly newestMs: number | null;
}

export interface Entry {
  readonly file: RunFile;
  readonly label: string;
  readonly timeMs: number | null;
}

export interface Listing {
  readonly folders: readonly Folder[];
  readonly files: readonly Entry[];
}

export function timeMsOf(file: RunFile): number | null {
  return file.updateTime === undefined ? null : Number(file.updateTime.seconds) * 1000 + file.updateTime.nanos / 1e6;
}

/** What lies directly in a folder ("" or "a/b/"), folders first, each by name. */
export function listFolder(files: readonly RunFile[], folder: string): Listing {
  const folders = new Map<string, { count: number; bytes: bigint; newestMs: number | null }>();
  const here: Entry[] = [];
  for (const file of files) {
    if (!file.name.startsWith(folder)) continue;
    const rest = file.name.slice(folder.length);
    const slash = rest.indexOf("/");
    const timeMs = timeMsOf(file);
    if (slash < 0) {
      here.push({ file, label: rest, timeMs });
      continue;
    }
    const label = rest.slice(0, slash);
    const known = folders.get(label) ?? { count: 0, bytes: 0n, newestMs: null };
    folders.set(label, {
      count: known.count + 1,
      bytes: known.bytes + file.sizeBytes,
      newestMs: timeMs === null ? known.newestMs : Math.max(known.newestMs ?? timeMs, timeMs),
    });
  }
  return {
    folders: [...folders].map(([label, known]) => ({ label, path: `${folder}${label}/`, ...known })).sort(byLabel),
    files: here.sort(byLabel),
  };
}

/** All files under a folder whose names contain the text, whatever its case, by name. */
export function findFiles(files: readonly RunFile[], folder: string, text: string): Entry[] {
  const wanted = text.toLowerCase();
  return files
    .filter(({ name }) => name.startsWith(folder) && name.slice(folder.length).toLowerCase().includes(wanted))
    .map((file) => ({ file, label: file.name.slice(folder.length), timeMs: timeMsOf(file) }))
    .sort(byLabel);
}

/** Steps from the top to a folder or file: the label of each and the folder up to it. */
export function stepsTo(path: string): { label: string; path: string }[] {
  const labels = path.split("/").filter((label) => label !== "");
  return labels.map((label, index) => ({ label, path: `${labels.slice(0, index + 1).join("/")}/` }));
}

const ORDER = new Intl.Collator("en", { numeric: true });

function byLabel(a: { label: string }, b: { label: string }): number {
  return ORDER.compare(a.label, b.label);
}
