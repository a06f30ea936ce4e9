// Sounds, moving pictures and pages of HTML of one step.
import { useEffect, useRef, useState } from "react";
import { describeError } from "../api/errors";
import type { ExtendedObject } from "../api/extendedJson";
import { type MediaEntry, numberOf, textOf, useFileText, useFileUrl } from "../api/media";
import { formatBytes } from "../charts/format";
import { Button } from "../ui/controls";
import { useSeen } from "./Picture";

/** HTML larger than this is read when asked for. */
const HTML_BYTES_MAX = 5 * 1024 * 1024;

export function Players({ entries, kind, width, height }: { entries: readonly MediaEntry[]; kind: "audio" | "video"; width: number; height: number }) {
  const count = entries.reduce((sum, { items }) => sum + items.length, 0);
  return (
    <div className="players" style={{ width, height }}>
      {entries.flatMap(({ items, fileRunPath }, i) =>
        items.map((item, k) => (
          <Player key={`${String(i)} ${String(k)} ${textOf(item, "file")}`} runPath={fileRunPath} item={item} kind={kind} height={count === 1 ? height : Math.min(height, 190)} />
        )),
      )}
    </div>
  );
}

function Player({ runPath, item, kind, height }: { runPath: string; item: ExtendedObject; kind: "audio" | "video"; height: number }) {
  const host = useRef<HTMLElement>(null);
  const isSeen = useSeen(host);
  const url = useFileUrl(runPath, textOf(item, "file"), isSeen);
  const caption = textOf(item, "caption");
  const duration = numberOf(item, "duration_s");
  const label = caption === "" ? textOf(item, "file").split("/").at(-1) : caption;
  const notes = [duration === null ? "" : `${duration.toFixed(1)} s`, kind === "audio" && numberOf(item, "sample_rate") !== null ? `${String(numberOf(item, "sample_rate"))} Hz` : ""].filter((note) => note !== "");
  return (
    <figure ref={host} className="player">
      {url.error !== null ? (
        <span className="picture-word">not here yet</span>
      ) : kind === "audio" ? (
        <audio controls preload="none" src={url.data} aria-label={label} />
      ) : textOf(item, "format") === "gif" ? (
        <img src={url.data} alt={label} style={{ maxHeight: height - 24 }} />
      ) : (
        <video controls loop muted playsInline preload="metadata" src={url.data} aria-label={label} style={{ maxHeight: height - 24 }} />
      )}
      <figcaption className="cut" title={label}>
        {label}
        {notes.length === 0 ? null : <span className="muted"> {notes.join(" · ")}</span>}
      </figcaption>
    </figure>
  );
}

export function HtmlFrame({ entry, width, height, title }: { entry: MediaEntry; width: number; height: number; title: string }) {
  const item = entry.items[0];
  const host = useRef<HTMLDivElement>(null);
  const isSeen = useSeen(host);
  const [isAsked, setAsked] = useState(false);
  const bytes = item === undefined ? 0 : (numberOf(item, "size_bytes") ?? 0);
  const isHeld = bytes > HTML_BYTES_MAX && !isAsked;
  const text = useFileText(entry.fileRunPath, item === undefined ? "" : textOf(item, "file"), isSeen && !isHeld);
  return (
    <div ref={host} className="html-frame" style={{ width, height }}>
      {isHeld ? (
        <Button
          onClick={() => {
            setAsked(true);
          }}
        >
          Load {formatBytes(bytes)} of HTML
        </Button>
      ) : text.error !== null ? (
        <p className="muted">The page cannot be read: {describeError(text.error).detail}</p>
      ) : text.data === undefined ? (
        <span className="picture-wait" />
      ) : (
        <Sandbox key={text.data} html={text.data} title={title} />
      )}
    </div>
  );
}

/** A frame of an origin of its own: what runs in it reaches neither this page nor the network. */
function Sandbox({ html, title }: { html: string; title: string }) {
  const frame = useRef<HTMLIFrameElement>(null);
  useEffect(() => {
    const onMessage = (event: MessageEvent): void => {
      const target = frame.current?.contentWindow;
      if (target === null || target === undefined || event.source !== target || event.data !== "runyard-sandbox-ready") return;
      target.postMessage(html, "*");
    };
    window.addEventListener("message", onMessage);
    return () => {
      window.removeEventListener("message", onMessage);
    };
  }, [html]);
  return <iframe ref={frame} title={title} sandbox="allow-scripts" src="/sandbox.html" />;
}
