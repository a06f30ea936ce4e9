// What applies to all panels: search, smoothing, scale, zoom.
import { type ReactNode, useEffect, useRef, useState } from "react";
import { formatCount } from "../charts/format";
import { Button, SearchInput, Slider } from "../ui/controls";
import { CloseIcon } from "../ui/icons";
import { useDelayed } from "../ui/view";
import type { Section } from "./sections";
import { SMOOTHING_MAX, type WorkspaceActions, type WorkspaceView } from "./viewState";

interface ToolbarProps {
  readonly view: WorkspaceView;
  readonly actions: WorkspaceActions;
  readonly sections: readonly Section[];
  readonly controls: ReactNode;
  readonly counts: string;
}

export function Toolbar({ view, actions, sections, controls, counts }: ToolbarProps) {
  const [text, setText] = useDelayed(view.search, actions.setSearch);
  const isAllShut = sections.length > 0 && sections.every(({ name }) => view.shut.has(name));
  return (
    <div className="toolbar" role="toolbar" aria-label="Charts">
      <SearchInput label="Search metrics" text={text} onText={setText} hasShortcut />
      <label className="toolbar-item">
        Smoothing
        <SmoothingSlider value={view.smoothing} onValue={actions.setSmoothing} />
      </label>
      <Button
        className={`small ${view.isLog ? "on" : ""}`}
        aria-pressed={view.isLog}
        title="Logarithmic y axis"
        onClick={() => {
          actions.setLog(!view.isLog);
        }}
      >
        log y
      </Button>
      {sections.length > 1 ? (
        <Button
          className="small"
          onClick={() => {
            actions.setShut(isAllShut ? [] : sections.map(({ name }) => name));
          }}
        >
          {isAllShut ? "Expand all" : "Collapse all"}
        </Button>
      ) : null}
      {view.range === null ? null : (
        <Button
          className="small on"
          title="Show all steps (double click on a chart)"
          onClick={() => {
            actions.zoom(null);
          }}
        >
          steps {formatCount(view.range[0])} – {formatCount(view.range[1])} <CloseIcon size={11} />
        </Button>
      )}
      {controls}
      <span className="toolbar-counts">{counts}</span>
    </div>
  );
}

/** Browsers stop a page that changes its address too often. */
const ADDRESS_PAUSE_MS = 80;

/** Follows the pointer at once, and passes its value on a few times a second. */
function SmoothingSlider({ value, onValue }: { value: number; onValue: (value: number) => void }) {
  const [dragged, setDragged] = useState<number | null>(null);
  const latest = useRef(0);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
    },
    [],
  );
  return (
    <>
      <Slider
        label="Smoothing"
        value={dragged ?? value}
        max={SMOOTHING_MAX}
        step={0.01}
        onValue={(next) => {
          latest.current = next;
          setDragged(next);
          timer.current ??= setTimeout(() => {
            timer.current = undefined;
            setDragged(null);
            onValue(latest.current);
          }, ADDRESS_PAUSE_MS);
        }}
      />
      <output>{(dragged ?? value).toFixed(2)}</output>
    </>
  );
}
