// How metrics are put into sections and rows of panels.

export interface Section {
  readonly name: string;
  readonly metrics: readonly string[];
}

export type LayoutRow =
  | { readonly kind: "head"; readonly section: Section; readonly isShut: boolean }
  | { readonly kind: "panels"; readonly section: Section; readonly metrics: readonly string[]; readonly isMedia: boolean };

/** Section of metrics whose names have no prefix. */
export const PLAIN_SECTION = "charts";

const NATURAL = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** The part of a name before its first slash; metrics without one stand in the first section. */
export function sectionOf(metric: string): string {
  const slash = metric.indexOf("/");
  return slash <= 0 ? PLAIN_SECTION : metric.slice(0, slash);
}

/** The metric's name as its panel's title: without the section. */
export function panelTitle(metric: string): string {
  const slash = metric.indexOf("/");
  return slash <= 0 || slash === metric.length - 1 ? metric : metric.slice(slash + 1);
}

/** What people look at first, and what last; all else between them by name. */
const FIRST = [/^charts$/, /^train/i, /^(val|valid|validation|dev)$/i, /^(eval|test)/i];
const LAST = /^(system|sys|gpu|perf|timing|debug)$/i;

function sectionRank(name: string): number {
  const first = FIRST.findIndex((pattern) => pattern.test(name));
  return first >= 0 ? first : LAST.test(name) ? FIRST.length + 1 : FIRST.length;
}

/** Sections by rank and name, metrics by name with numbers in order (layer.2 before layer.10). */
export function groupIntoSections(metrics: Iterable<string>): Section[] {
  const byName = new Map<string, string[]>();
  for (const metric of new Set(metrics)) {
    const name = sectionOf(metric);
    const list = byName.get(name);
    if (list === undefined) byName.set(name, [metric]);
    else list.push(metric);
  }
  return [...byName]
    .map(([name, list]) => ({ name, metrics: list.sort((a, b) => NATURAL.compare(a, b)) }))
    .sort((a, b) => sectionRank(a.name) - sectionRank(b.name) || NATURAL.compare(a.name, b.name));
}

/** True if every word of the search is in the name. */
export function matchesSearch(metric: string, search: string): boolean {
  const name = metric.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => name.includes(word));
}

/** True if a definition says that this metric gets no chart of itself. The last definition that matches counts. */
export function isHidden(metric: string, definitions: readonly { name: string; isHidden: boolean }[]): boolean {
  return definitions.findLast(({ name }) => matchesGlob(metric, name))?.isHidden === true;
}

function matchesGlob(text: string, glob: string): boolean {
  if (!/[*?]/.test(glob)) return text === glob;
  const pattern = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp(`^${pattern}$`, "s").test(text);
}

/** How many panels stand in a row: of charts, and of media, which need more room. */
export interface Columns {
  readonly charts: number;
  readonly media: number;
}

/** Rows of the page: a head per section and, unless it is shut, its panels, so many a row: charts, then media. */
export function layoutRows(sections: readonly Section[], columns: Columns, shut: ReadonlySet<string>, isMedia: (panel: string) => boolean = () => false): LayoutRow[] {
  return sections.flatMap((section): LayoutRow[] => {
    const isShut = shut.has(section.name);
    const rows: LayoutRow[] = [{ kind: "head", section, isShut }];
    if (isShut) return rows;
    const media = section.metrics.filter(isMedia);
    const charts = media.length === 0 ? section.metrics : section.metrics.filter((panel) => !isMedia(panel));
    for (let i = 0; i < charts.length; i += columns.charts) rows.push({ kind: "panels", section, metrics: charts.slice(i, i + columns.charts), isMedia: false });
    for (let i = 0; i < media.length; i += columns.media) rows.push({ kind: "panels", section, metrics: media.slice(i, i + columns.media), isMedia: true });
    return rows;
  });
}
