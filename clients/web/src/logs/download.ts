// Where the server hands a run's log out as one text; the browser saves it, and shows how far it is.
export interface DownloadAsk {
  readonly runPath: string;
  /** Only what this writer printed. Null: all. */
  readonly writer: number | null;
  /** A time stands before each line. */
  readonly hasTimes: boolean;
  /** The name of its writer stands before each line. */
  readonly hasLabels: boolean;
}

export function downloadAddress({ runPath, writer, hasTimes, hasLabels }: DownloadAsk): string {
  const query = new URLSearchParams({ run: runPath });
  if (writer !== null) query.set("writer", String(writer));
  if (hasTimes) query.set("times", "1");
  if (hasLabels) query.set("labels", "1");
  return `/.download/log?${query.toString()}`;
}

/** Has the browser save it; the server names the file. */
export function beginDownload(ask: DownloadAsk): void {
  const link = document.createElement("a");
  link.href = downloadAddress(ask);
  link.download = "";
  link.click();
}
