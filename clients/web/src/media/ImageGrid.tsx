// Images of one step: a grid for each run, boxes and masks that can be switched off, and one image large.
import { Dialog } from "radix-ui";
import { useEffect, useMemo, useState } from "react";
import type { ExtendedObject } from "../api/extendedJson";
import { listOf, type MediaEntry, numberOf, textOf } from "../api/media";
import { openFile } from "../api/openFile";
import { formatBytes } from "../charts/format";
import { Button, IconButton } from "../ui/controls";
import { ChevronRight, CloseIcon } from "../ui/icons";
import { classColour, type ClassLabels, readBoxSets, readMaskSets } from "./classes";
import { gridColumns } from "./layout";
import { type Overlays, Picture } from "./Picture";

const GAP = 6;
const CAPTION = 18;
const CELL_MIN = 76;
const LABELS_FROM = 180;

/** A picture and the run that holds its file. */
interface Shown {
  readonly item: ExtendedObject;
  readonly runPath: string;
}

interface ImageGridProps {
  readonly entries: readonly MediaEntry[];
  readonly width: number;
  readonly height: number;
  readonly overlays: Overlays;
  readonly onOverlays: (overlays: Overlays) => void;
  readonly title: string;
}

export function ImageGrid({ entries, width, height, overlays, onOverlays, title }: ImageGridProps) {
  const shown = useMemo(() => entries.flatMap(({ items, fileRunPath }) => items.map((item): Shown => ({ item, runPath: fileRunPath }))), [entries]);
  const [open, setOpen] = useState<number | null>(null);
  const first = shown[0]?.item;
  const aspect = first === undefined ? 1 : (numberOf(first, "width") ?? 1) / Math.max(1, numberOf(first, "height") ?? 1);
  const columns = gridColumns(shown.length, aspect, width, height, CELL_MIN);
  const cell = Math.floor((width - GAP * (columns - 1)) / columns);
  const hasCaptions = shown.some(({ item }) => textOf(item, "caption") !== "");
  const most = shown.length <= columns ? height - (hasCaptions ? CAPTION : 0) : height;
  return (
    <div className="image-grid" style={{ width, height, gap: GAP, gridTemplateColumns: `repeat(${String(columns)}, ${String(cell)}px)` }}>
      {shown.map(({ item, runPath }, i) => {
        const caption = textOf(item, "caption");
        return (
          <figure key={i} className="image-cell">
            <button
              type="button"
              className="image-button"
              aria-label={caption === "" ? `Enlarge image ${String(i + 1)}` : `Enlarge: ${caption}`}
              onClick={() => {
                setOpen(i);
              }}
            >
              <Picture runPath={runPath} item={item} overlays={overlays} width={cell} height={Math.max(40, most)} hasBoxLabels={cell >= LABELS_FROM} />
            </button>
            {hasCaptions ? (
              <figcaption className="cut" title={caption}>
                {caption}
              </figcaption>
            ) : null}
          </figure>
        );
      })}
      {open === null ? null : (
        <Lightbox
          shown={shown}
          place={Math.min(open, shown.length - 1)}
          overlays={overlays}
          onOverlays={onOverlays}
          title={title}
          onPlace={setOpen}
        />
      )}
    </div>
  );
}

/** Sets of boxes and masks that some of the images have. */
export function setNames(entries: readonly MediaEntry[]): string[] {
  const names = new Set<string>();
  for (const { items } of entries) {
    for (const item of items) {
      for (const { name } of readBoxSets(item)) names.add(name);
      for (const { name } of readMaskSets(item)) names.add(name);
      for (const name of listOf(item, "annotation_sets")) if (typeof name === "string") names.add(name);
    }
  }
  return [...names].sort();
}

/** Classes that some boxes or masks name. */
function classNames(items: readonly ExtendedObject[]): ClassLabels {
  const found = new Map<number, string>();
  for (const item of items) {
    for (const { labels, boxes } of readBoxSets(item)) {
      for (const [id, name] of labels) found.set(id, name);
      for (const { classId } of boxes) if (!found.has(classId)) found.set(classId, String(classId));
    }
    for (const { labels } of readMaskSets(item)) for (const [id, name] of labels) found.set(id, name);
  }
  return new Map([...found].sort((a, b) => a[0] - b[0]));
}

export function OverlayChips({ names, overlays, onOverlays }: { names: readonly string[]; overlays: Overlays; onOverlays: (overlays: Overlays) => void }) {
  return (
    <span className="overlay-chips">
      {names.map((name) => {
        const isShown = !overlays.hiddenSets.has(name);
        return (
          <button
            key={name}
            type="button"
            className={`chip ${isShown ? "on" : ""}`}
            aria-pressed={isShown}
            title={`${isShown ? "Hide" : "Show"} ${name}`}
            onClick={() => {
              onOverlays({ ...overlays, hiddenSets: toggled(overlays.hiddenSets, name) });
            }}
          >
            {name}
          </button>
        );
      })}
    </span>
  );
}

function toggled<T>(set: ReadonlySet<T>, value: T): ReadonlySet<T> {
  const after = new Set(set);
  if (!after.delete(value)) after.add(value);
  return after;
}

interface LightboxProps {
  readonly shown: readonly Shown[];
  readonly place: number;
  readonly overlays: Overlays;
  readonly onOverlays: (overlays: Overlays) => void;
  readonly title: string;
  readonly onPlace: (place: number | null) => void;
}

const MARGIN = 96;
const FOOT = 84;

function Lightbox({ shown, place, overlays, onOverlays, title, onPlace }: LightboxProps) {
  const current = shown[place];
  const count = shown.length;
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (by === 0) return;
      event.preventDefault();
      event.stopPropagation();
      onPlace((place + by + count) % count);
    };
    window.addEventListener("keydown", onKey, true);
    return () => {
      window.removeEventListener("keydown", onKey, true);
    };
  }, [place, count, onPlace]);
  if (current === undefined) return null;
  const { item, runPath } = current;
  const classes = classNames([item]);
  const caption = textOf(item, "caption");
  const facts = [
    numberOf(item, "width") === null ? "" : `${String(numberOf(item, "width"))} × ${String(numberOf(item, "height"))}`,
    textOf(item, "format"),
    numberOf(item, "size_bytes") === null ? "" : formatBytes(numberOf(item, "size_bytes") ?? 0),
  ].filter((fact) => fact !== "");
  return (
    <Dialog.Root
      open
      onOpenChange={(isOpen) => {
        if (!isOpen) onPlace(null);
      }}
    >
      <Dialog.Portal>
        <Dialog.Overlay className="overlay" />
        <Dialog.Content
          className="lightbox"
          aria-describedby={undefined}
          onOpenAutoFocus={(event) => {
            // The dialogue itself, not a button, whose hint would take the first Escape.
            event.preventDefault();
            (event.currentTarget as HTMLElement).focus();
          }}
        >
          <Dialog.Title className="lightbox-title cut">
            {title}
            {count > 1 ? <span className="muted"> {place + 1} of {count}</span> : null}
          </Dialog.Title>
          <div className="lightbox-body">
            {count > 1 ? (
              <IconButton label="Previous image" className="turned" onClick={() => { onPlace((place - 1 + count) % count); }}>
                <ChevronRight size={20} />
              </IconButton>
            ) : null}
            <Picture
              key={place}
              runPath={runPath}
              item={item}
              overlays={overlays}
              width={Math.max(200, window.innerWidth - 2 * MARGIN - 80)}
              height={Math.max(160, window.innerHeight - MARGIN - FOOT - 60)}
              hasBoxLabels
            />
            {count > 1 ? (
              <IconButton label="Next image" onClick={() => { onPlace((place + 1) % count); }}>
                <ChevronRight size={20} />
              </IconButton>
            ) : null}
          </div>
          <footer className="lightbox-foot">
            {caption === "" ? null : <p>{caption}</p>}
            <p className="muted">
              {facts.join(" · ")}{" "}
              <Button
                className="small"
                onClick={() => {
                  void openFile(runPath, textOf(item, "file")).catch(() => undefined);
                }}
              >
                Open file
              </Button>
            </p>
            {classes.size === 0 ? null : (
              <p className="classes">
                {[...classes].map(([id, name]) => {
                  const isShown = !overlays.hiddenClasses.has(id);
                  return (
                    <button
                      key={id}
                      type="button"
                      className={`chip ${isShown ? "on" : ""}`}
                      aria-pressed={isShown}
                      onClick={() => {
                        onOverlays({ ...overlays, hiddenClasses: toggled(overlays.hiddenClasses, id) });
                      }}
                    >
                      <i style={{ background: classColour(id) }} />
                      {name}
                    </button>
                  );
                })}
              </p>
            )}
          </footer>
          <Dialog.Close asChild>
            <IconButton label="Close" className="enlarged-close">
              <CloseIcon />
            </IconButton>
          </Dialog.Close>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
