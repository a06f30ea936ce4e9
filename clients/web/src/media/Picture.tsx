// One image of a run, with its boxes and masks over it.
import { type CSSProperties, useEffect, useId, useMemo, useRef, useState } from "react";
import { numberOf, textOf, useFileText, useFileUrl } from "../api/media";
import type { ExtendedObject } from "../api/extendedJson";
import { formatBytes, formatShort } from "../charts/format";
import { annotationsFileOf, type Box, type BoxSet, classColour, type MaskSet, maskTables, readBoxSets, readMaskSets, withAnnotations } from "./classes";

/** Pictures larger than this are read when asked for. */
const BYTES_MAX = 24 * 1024 * 1024;
/** Pictures with fewer pixels a side show them as squares. */
const PIXELATED_BELOW = 128;
const LABELS_MAX = 60;

export interface Overlays {
  /** Names of sets of boxes and masks that are not shown. */
  readonly hiddenSets: ReadonlySet<string>;
  readonly hiddenClasses: ReadonlySet<number>;
}

interface PictureProps {
  readonly runPath: string;
  readonly item: ExtendedObject;
  readonly overlays: Overlays;
  /** Most that it may take. */
  readonly width: number;
  readonly height: number;
  readonly hasBoxLabels: boolean;
}

export function Picture({ runPath, item, overlays, width, height, hasBoxLabels }: PictureProps) {
  const host = useRef<HTMLDivElement>(null);
  const isSeen = useSeen(host);
  const [isAsked, setAsked] = useState(false);
  const bytes = numberOf(item, "size_bytes") ?? 0;
  const isHeld = bytes > BYTES_MAX && !isAsked;
  const url = useFileUrl(runPath, textOf(item, "file"), isSeen && !isHeld);
  const [isBroken, setBroken] = useState(false);
  const natural = { width: numberOf(item, "width") ?? 0, height: numberOf(item, "height") ?? 0 };
  const size = fitted(natural, width, height);
  const apart = annotationsFileOf(item);
  const annotations = useFileText(runPath, apart, isSeen && apart !== "");
  const annotated = useMemo(() => (annotations.data === undefined ? item : withAnnotations(item, annotations.data)), [item, annotations.data]);
  const boxes = useMemo(() => readBoxSets(annotated), [annotated]);
  const masks = useMemo(() => readMaskSets(annotated), [annotated]);
  const isSmall = natural.width > 0 && Math.max(natural.width, natural.height) < PIXELATED_BELOW;
  const caption = textOf(item, "caption");
  return (
    <div ref={host} className={`picture ${isSmall ? "pixelated" : ""}`} style={size}>
      {isHeld ? (
        <span
          className="picture-word"
          role="button"
          tabIndex={0}
          onClick={(event) => {
            event.stopPropagation();
            setAsked(true);
          }}
        >
          {formatBytes(bytes)}: load
        </span>
      ) : url.error !== null || isBroken ? (
        <span className="picture-word">not here{url.error === null ? "" : " yet"}</span>
      ) : url.data === undefined ? (
        <span className="picture-wait" aria-hidden="true" />
      ) : (
        <img
          src={url.data}
          alt={caption === "" ? textOf(item, "file") : caption}
          draggable={false}
          onError={() => {
            setBroken(true);
          }}
        />
      )}
      {url.data === undefined || isBroken ? null : (
        <>
          {masks.map((mask) =>
            overlays.hiddenSets.has(mask.name) ? null : <Mask key={mask.name} runPath={runPath} mask={mask} hidden={overlays.hiddenClasses} />,
          )}
          {boxes.map((set, i) => (overlays.hiddenSets.has(set.name) ? null : <Boxes key={set.name} set={set} isDashed={i > 0} overlays={overlays} hasLabels={hasBoxLabels} />))}
        </>
      )}
    </div>
  );
}

function Mask({ runPath, mask, hidden }: { runPath: string; mask: MaskSet; hidden: ReadonlySet<number> }) {
  const url = useFileUrl(runPath, mask.file, true);
  const id = useId();
  const [red, green, blue, opacity] = useMemo(() => maskTables(hidden), [hidden]);
  if (url.data === undefined) return null;
  return (
    <>
      {/* The grey of a pixel is a class id. Its colour, and whether it is shown, are looked up by the browser: no pixel is read here. */}
      <svg width="0" height="0" className="mask-filter" aria-hidden="true">
        <filter id={id} colorInterpolationFilters="sRGB" x="0" y="0" width="1" height="1">
          <feComponentTransfer in="SourceGraphic" result="colour">
            <feFuncR type="discrete" tableValues={red} />
            <feFuncG type="discrete" tableValues={green} />
            <feFuncB type="discrete" tableValues={blue} />
          </feComponentTransfer>
          <feColorMatrix in="SourceGraphic" type="matrix" values="0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 0 0 0 0" />
          <feComponentTransfer result="shown">
            <feFuncA type="discrete" tableValues={opacity} />
          </feComponentTransfer>
          <feComposite in="colour" in2="shown" operator="in" />
        </filter>
      </svg>
      <img className="mask" src={url.data} alt={`mask ${mask.name}`} draggable={false} style={{ filter: `url(#${CSS.escape(id)})` }} />
    </>
  );
}

function Boxes({ set, isDashed, overlays, hasLabels }: { set: BoxSet; isDashed: boolean; overlays: Overlays; hasLabels: boolean }) {
  const shown = set.boxes.filter(({ classId }) => !overlays.hiddenClasses.has(classId) || classId === 0);
  return (
    <>
      <svg className="boxes" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
        {shown.map((box, i) => (
          <rect
            key={i}
            x={box.left * 100}
            y={box.top * 100}
            width={box.width * 100}
            height={box.height * 100}
            stroke={classColour(box.classId)}
            strokeDasharray={isDashed ? "5 3" : undefined}
            vectorEffect="non-scaling-stroke"
          />
        ))}
      </svg>
      {hasLabels
        ? shown.slice(0, LABELS_MAX).map((box, i) => {
            const text = boxText(box, set);
            return text === "" ? null : (
              <span key={i} className="box-label" style={labelPlace(box)}>
                {text}
              </span>
            );
          })
        : null}
    </>
  );
}

function boxText(box: Box, { labels }: BoxSet): string {
  const name = box.caption === "" ? (labels.get(box.classId) ?? "") : box.caption;
  const scores = box.scores.map(([score, value]) => `${score} ${formatShort(value)}`).join(", ");
  return box.caption === "" && scores !== "" ? `${name} ${scores}`.trim() : name;
}

function labelPlace(box: Box): CSSProperties {
  const isAtTop = box.top < 0.06;
  return {
    left: `${String(Math.max(0, box.left) * 100)}%`,
    top: `${String(Math.max(0, box.top) * 100)}%`,
    background: classColour(box.classId),
    transform: isAtTop ? undefined : "translateY(-100%)",
  };
}

/** Size that keeps the picture's shape within the most; all of it where the shape is not known. */
function fitted(natural: { width: number; height: number }, width: number, height: number): { width: number; height: number } {
  if (natural.width <= 0 || natural.height <= 0) return { width, height: Math.min(width, height) };
  const scale = Math.min(width / natural.width, height / natural.height);
  return { width: Math.max(1, Math.floor(natural.width * scale)), height: Math.max(1, Math.floor(natural.height * scale)) };
}

/** True once the element has come near the view. */
export function useSeen(element: React.RefObject<HTMLElement | null>): boolean {
  const [isSeen, setSeen] = useState(false);
  useEffect(() => {
    if (isSeen || element.current === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) setSeen(true);
      },
      { rootMargin: "120px" },
    );
    observer.observe(element.current);
    return () => {
      observer.disconnect();
    };
  }, [element, isSeen]);
  return isSeen;
}
