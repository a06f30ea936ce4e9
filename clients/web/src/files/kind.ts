// How a file is shown: by its type and its name; what nobody knows is looked at as text first.
import type { RunFile } from "../api/types";

export type Kind = "text" | "json" | "table" | "html" | "image" | "audio" | "video" | "pdf" | "binary";

const BINARY_SUFFIXES = new Set([
  "7z", "bin", "bz2", "ckpt", "gz", "h5", "hdf5", "npy", "npz", "onnx", "parquet", "pickle", "pkl", "pt", "pth", "safetensors",
  "so", "tar", "tfevents", "tflite", "whl", "xz", "zip", "zst", "arrow", "feather", "joblib", "keras", "msgpack",
]);
const IMAGE_SUFFIXES = new Set(["apng", "avif", "bmp", "gif", "ico", "jpeg", "jpg", "png", "svg", "webp"]);
const AUDIO_SUFFIXES = new Set(["aac", "flac", "m4a", "mp3", "oga", "ogg", "opus", "wav"]);
const VIDEO_SUFFIXES = new Set(["m4v", "mov", "mp4", "ogv", "webm"]);

export function kindOf({ name, contentType }: Pick<RunFile, "name" | "contentType">): Kind {
  const suffix = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
  const type = (contentType.split(";")[0] ?? "").trim().toLowerCase();
  if (type.startsWith("image/") || IMAGE_SUFFIXES.has(suffix)) return "image";
  if (type.startsWith("audio/") || AUDIO_SUFFIXES.has(suffix)) return "audio";
  if (type.startsWith("video/") || VIDEO_SUFFIXES.has(suffix)) return "video";
  if (type === "application/pdf" || suffix === "pdf") return "pdf";
  if (type === "application/json" || suffix === "json" || suffix === "ipynb") return "json";
  if (type === "text/csv" || type === "text/tab-separated-values" || suffix === "csv" || suffix === "tsv") return "table";
  if (type === "text/html" || suffix === "html" || suffix === "htm") return "html";
  return BINARY_SUFFIXES.has(suffix) ? "binary" : "text";
}

/** The text of bytes in UTF-8; null if they are none. A character that the end cuts through is left out. */
export function textOf(bytes: Uint8Array): string | null {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return null;
  }
}
