// A figure of Plotly, drawn by Plotly itself, whose code is loaded with the first figure that is seen.
import { useEffect, useMemo, useRef, useState } from "react";
import { layoutOf, type Look, parseFigure, type PlotlyFigure } from "./plotlyFigure";

interface PlotlyViewProps {
  readonly text: string;
  readonly width: number;
  readonly height: number;
  readonly label: string;
}

export function PlotlyView({ text, width, height, label }: PlotlyViewProps) {
  const host = useRef<HTMLDivElement>(null);
  const [problem, setProblem] = useState("");
  const [themeCount, setThemeCount] = useState(0);
  const read = useMemo(() => readFigure(text), [text]);
  useEffect(() => {
    const themes = new MutationObserver(() => {
      setThemeCount((count) => count + 1);
    });
    themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      themes.disconnect();
    };
  }, []);
  useEffect(() => {
    const node = host.current;
    if (node === null || read.figure === null) return;
    let isOver = false;
    draw(node, read.figure, { width, height }, () => isOver).then(
      () => {
        if (!isOver) setProblem("");
      },
      (error: unknown) => {
        if (!isOver) setProblem(error instanceof Error ? error.message : String(error));
      },
    );
    return () => {
      isOver = true;
    };
  }, [read, width, height, themeCount]);
  useEffect(() => {
    const node = host.current;
    return () => {
      if (node !== null) void load().then((Plotly) => { Plotly.purge(node); }, () => undefined);
    };
  }, []);
  const said = read.problem === "" ? problem : read.problem;
  return (
    <>
      <div ref={host} className="plotly-figure" role="img" aria-label={label} style={{ width, height }} />
      {said === "" ? null : <p className="panel-cover muted">The figure cannot be drawn: {said}</p>}
    </>
  );
}

async function load() {
  return (await import("plotly.js-strict-dist-min")).default;
}

async function draw(node: HTMLElement, figure: PlotlyFigure, size: { width: number; height: number }, isOver: () => boolean): Promise<void> {
  const Plotly = await load();
  if (isOver()) return;
  // Plotly changes what it is given.
  const { data, layout, frames } = structuredClone(figure);
  await Plotly.react(node, {
    data: [...data],
    layout: layoutOf(layout, size, readLook(node)),
    frames: [...frames],
    config: { displaylogo: false, displayModeBar: size.width > 360 ? "hover" : false, showLink: false, showSendToCloud: false },
  });
}

function readFigure(text: string): { figure: PlotlyFigure | null; problem: string } {
  try {
    return { figure: parseFigure(text), problem: "" };
  } catch (error) {
    return { figure: null, problem: error instanceof Error ? error.message : String(error) };
  }
}

function readLook(node: HTMLElement): Look {
  const style = getComputedStyle(node);
  const value = (name: string, other: string): string => {
    const found = style.getPropertyValue(name).trim();
    return found === "" ? other : found;
  };
  return { text: style.color, grid: value("--line", "#8884"), font: style.fontFamily };
}
