// A figure of Plotly as it was logged, and the look that it gets on this page where it has none of its own.

type Part = Readonly<Record<string, unknown>>;

export interface PlotlyFigure {
  readonly data: readonly unknown[];
  readonly layout: Part;
  readonly frames: readonly unknown[];
}

export interface Look {
  readonly text: string;
  readonly grid: string;
  readonly font: string;
}

/** Paper of the templates that Plotly gives every figure that names none. */
const DEFAULT_PAPERS = new Set(["white", "#fff", "#ffffff", ""]);

/** Reads a figure's JSON; throws an Error that says what it is not. */
export function parseFigure(text: string): PlotlyFigure {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("the file is no JSON");
  }
  if (!isPart(found) || !Array.isArray(found["data"])) throw new Error("the file holds no figure of Plotly: it has no list “data”");
  const { layout, frames } = found;
  return { data: found["data"], layout: isPart(layout) ? layout : {}, frames: Array.isArray(frames) ? frames : [] };
}

/** Returns the layout at this size; what the figure itself says stays, only Plotly's default look gives way to the page's. */
export function layoutOf(layout: Part, size: { width: number; height: number }, look: Look): Record<string, unknown> {
  const template = partOf(layout, "template");
  const defaults = partOf(template, "layout");
  const sized = { ...layout, autosize: false, width: size.width, height: size.height };
  const paper = defaults["paper_bgcolor"];
  if (paper !== undefined && !(typeof paper === "string" && DEFAULT_PAPERS.has(paper.toLowerCase()))) return sized;
  const axis = { gridcolor: look.grid, zerolinecolor: look.grid, linecolor: look.grid, automargin: true };
  const ours = {
    ...defaults,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...partOf(defaults, "font"), color: look.text, family: look.font, size: 11 },
    margin: { l: 44, r: 16, t: hasTitle(layout) ? 40 : 14, b: 36 },
    xaxis: { ...partOf(defaults, "xaxis"), ...axis },
    yaxis: { ...partOf(defaults, "yaxis"), ...axis },
  };
  return { ...sized, template: { ...template, layout: ours } };
}

function hasTitle(layout: Part): boolean {
  const { title } = layout;
  return typeof title === "string" ? title !== "" : isPart(title) && typeof title["text"] === "string" && title["text"] !== "";
}

function partOf(part: Part, name: string): Part {
  const found = part[name];
  return isPart(found) ? found : {};
}

function isPart(value: unknown): value is Part {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
