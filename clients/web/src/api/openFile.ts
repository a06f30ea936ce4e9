// Opens a file of a run in a window of its own, or downloads it.
import { fileUrl } from "./queries";

/** Called in answer to a click, since browsers allow windows only then; rejects if the file has no address. */
export async function openFile(runPath: string, name: string, asAttachment = false): Promise<void> {
  // Opened at once; its address comes when it is known.
  const target = asAttachment ? null : window.open("about:blank");
  try {
    const url = await fileUrl(runPath, name, asAttachment);
    if (target === null) window.location.assign(url);
    else {
      target.opener = null;
      target.location.replace(url);
    }
  } catch (error) {
    target?.close();
    throw error;
  }
}
