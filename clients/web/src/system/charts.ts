// Which charts there are: metrics that belong together, in sections. Pure.
import { type SystemMetric, SystemSection } from "../api/system";

export interface SystemChart {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  readonly isOfProcess: boolean;
  /** What the metrics tell, each once. */
  readonly descriptions: readonly string[];
  /** Lines of the chart, by item. */
  readonly metrics: readonly SystemMetric[];
}

export interface ChartSection {
  readonly name: string;
  readonly charts: readonly SystemChart[];
}

const NAMES: Readonly<Record<SystemSection, string>> = {
  [SystemSection.CPU]: "CPU",
  [SystemSection.MEMORY]: "Memory",
  [SystemSection.GPU]: "GPU",
  [SystemSection.PROCESS]: "Process",
  [SystemSection.DISK]: "Disk",
  [SystemSection.NETWORK]: "Network",
  [SystemSection.ENDPOINT]: "Endpoints",
  [SystemSection.UNSPECIFIED]: "Other",
};

/** Metrics as charts, in their order; of a search only charts that have all its words in title, section or a metric's name. */
export function groupIntoCharts(metrics: readonly SystemMetric[], search: string): ChartSection[] {
  const sections = new Map<SystemSection, Map<string, SystemMetric[]>>();
  for (const metric of metrics) {
    const charts = sections.get(metric.section) ?? new Map<string, SystemMetric[]>();
    sections.set(metric.section, charts);
    const key = `${metric.title} ${metric.unit}`;
    charts.set(key, [...(charts.get(key) ?? []), metric]);
  }
  const order = [...sections.keys()].sort((a, b) => place(a) - place(b));
  return order
    .map((section) => ({
      name: NAMES[section],
      charts: [...(sections.get(section) ?? [])].map(([key, held]) => toChart(`${NAMES[section]} ${key}`, held)).filter((chart) => fits(chart, search)),
    }))
    .filter(({ charts }) => charts.length > 0);
}

function place(section: SystemSection): number {
  return section === SystemSection.UNSPECIFIED ? Infinity : section;
}

function toChart(key: string, metrics: readonly SystemMetric[]): SystemChart {
  const [first] = metrics;
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return {
    key,
    title: first?.title ?? key,
    unit: first?.unit ?? "",
    isOfProcess: first?.isOfProcess ?? false,
    descriptions: [...new Set(metrics.map(({ description }) => description))].filter((text) => text !== ""),
    metrics: [...metrics].sort((a, b) => compare(a.item, b.item)),
  };
}

function fits(chart: SystemChart, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter((word) => word !== "");
  const text = [chart.key, ...chart.metrics.map(({ name }) => name)].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}
