// What the machines of a run did while it ran: charts over time, by section.
import { type ReactNode, useCallback, useMemo, useState } from "react";
import { useRunWriters } from "../api/lifeQueries";
import { isLive } from "../api/runState";
import { type SystemMetric, useSystemMetrics } from "../api/system";
import { type Run, timestampMs } from "../api/types";
import { Crosshair } from "../charts/crosshair";
import { formatCount } from "../charts/format";
import { Button, SearchInput } from "../ui/controls";
import { ChevronDown, ChevronRight } from "../ui/icons";
import { useLingering } from "../ui/time";
import { useDelayed, useView } from "../ui/view";
import { addressPatch, formatChoice, readAddress, readChoice, type SystemAddress } from "./address";
import { type ChartSection, groupIntoCharts } from "./charts";
import { EmptySystem } from "./empty";
import { SystemPanel, type SystemPanelProps } from "./SystemPanel";
import { type Choice, type Tellers, tellersOf } from "./tellers";
import "./system.css";

interface RunSystemProps {
  readonly run: Run;
  readonly renderError: (error: unknown, retry: () => void) => ReactNode;
}

/** What was sampled last may arrive after the run's end is known. */
const FOLLOW_AFTER_END_MS = 20_000;
const MODES = [
  ["start", "Since start"],
  ["clock", "Clock"],
] as const;

export function RunSystem({ run, renderError }: RunSystemProps) {
  const [view, setView] = useView();
  const address = useMemo(() => readAddress(view), [view]);
  const change = useCallback(
    (wanted: Partial<SystemAddress>, isStep = false) => {
      setView(addressPatch(wanted), isStep);
    },
    [setView],
  );
  const isGrowing = useLingering(isLive(run.state), FOLLOW_AFTER_END_MS);
  const answer = useSystemMetrics(run.path, isGrowing);
  const metrics = answer.data?.metrics;
  if (answer.error !== null && metrics === undefined) return renderError(answer.error, () => void answer.refetch());
  if (metrics === undefined) return <PanelSkeletons />;
  if (metrics.length === 0) {
    const end = run.endTime ?? (isLive(run.state) ? undefined : run.heartbeatTime);
    return <EmptySystem run={run} isGrowing={isGrowing} keepDays={answer.data?.keepDays ?? 0} endMs={end === undefined ? null : timestampMs(end)} />;
  }
  return <Charts run={run} metrics={metrics} isGrowing={isGrowing} isLost={answer.error !== null} address={address} change={change} />;
}

interface ChartsProps {
  readonly run: Run;
  readonly metrics: readonly SystemMetric[];
  readonly isGrowing: boolean;
  readonly isLost: boolean;
  readonly address: SystemAddress;
  readonly change: (wanted: Partial<SystemAddress>, isStep?: boolean) => void;
}

function Charts({ run, metrics, isGrowing, isLost, address, change }: ChartsProps) {
  const [crosshair] = useState(() => new Crosshair());
  const tellers = useTellers(run, metrics, isGrowing);
  const sections = useMemo(() => groupIntoCharts(metrics, address.search), [metrics, address.search]);
  const startMs = useStartMs(run, metrics);
  const extent = useMemo(() => extentOf(metrics, startMs), [metrics, startMs]);
  const choice = useStable(address.choice);
  const zoom = useStable(address.range === null ? null : ([address.range[0] + startMs, address.range[1] + startMs] as const));
  const onZoom = useCallback(
    (range: readonly [number, number] | null) => {
      change({ range: range === null ? null : [range[0] - startMs, range[1] - startMs] }, true);
    },
    [change, startMs],
  );
  const onLarge = useCallback(
    (large: string | null) => {
      change({ large }, true);
    },
    [change],
  );
  const common = { runPath: run.path, tellers, choice, mode: address.mode, startMs, extent, zoom, isGrowing, crosshair, onZoom, onLarge };
  return (
    <div className="system">
      <SystemToolbar address={address} change={change} tellers={tellers} choice={choice} counts={countText(metrics, tellers)} />
      {isLost ? (
        <p className="system-strip" role="status">
          The connection is lost; new samples come when it is back.
        </p>
      ) : null}
      {sections.length === 0 ? (
        <p className="system-none">No chart fits “{address.search}”.</p>
      ) : (
        <div className="system-scroll" tabIndex={0} role="region" aria-label="Charts of system metrics">
          {sections.map((section) => (
            <ChartGroup key={section.name} section={section} address={address} change={change} common={common} />
          ))}
        </div>
      )}
    </div>
  );
}

type Common = Omit<SystemPanelProps, "chart" | "isLarge">;

function ChartGroup({ section, address, change, common }: { section: ChartSection; address: SystemAddress; change: ChartsProps["change"]; common: Common }) {
  const isShut = address.shut.has(section.name);
  const toggle = (): void => {
    const shut = new Set(address.shut);
    if (!shut.delete(section.name)) shut.add(section.name);
    change({ shut });
  };
  return (
    <div className="system-group">
      <h2>
        <button type="button" className="system-section" aria-expanded={!isShut} onClick={toggle}>
          {isShut ? <ChevronRight /> : <ChevronDown />}
          {section.name}
          <span className="tab-count">{formatCount(section.charts.length)}</span>
        </button>
      </h2>
      {isShut ? null : (
        <div className="system-grid">
          {section.charts.map((chart) => (
            <SystemPanel key={chart.key} {...common} chart={chart} isLarge={address.large === chart.key} />
          ))}
        </div>
      )}
    </div>
  );
}

interface ToolbarProps extends Pick<ChartsProps, "address" | "change"> {
  readonly tellers: Tellers;
  readonly choice: Choice;
  readonly counts: string;
}

function SystemToolbar({ address, change, tellers, choice, counts }: ToolbarProps) {
  const [text, setText] = useDelayed(address.search, (search) => {
    change({ search });
  });
  const { nodes, processes } = tellers;
  return (
    <div className="system-bar">
      <SearchInput label="Filter charts" text={text} onText={setText} hasShortcut />
      {nodes.length > 1 || processes.length > 1 ? (
        <select
          className="system-select"
          aria-label="Lines shown"
          value={formatChoice(choice)}
          onChange={(event) => {
            change({ choice: readChoice(event.target.value) }, true);
          }}
        >
          <option value="auto">Lines, or means of many</option>
          <option value="each">A line for each</option>
          <option value="together">Means and ranges</option>
          {nodes.length > 1
            ? nodes.map(({ node }) => (
                <option key={node} value={`node:${node}`}>
                  Only {node}
                </option>
              ))
            : null}
        </select>
      ) : null}
      <span className="system-modes" role="group" aria-label="Time axis">
        {MODES.map(([mode, label]) => (
          <button
            key={mode}
            type="button"
            aria-pressed={address.mode === mode}
            onClick={() => {
              change({ mode });
            }}
          >
            {label}
          </button>
        ))}
      </span>
      {address.range === null ? null : (
        <Button
          className="small"
          onClick={() => {
            change({ range: null }, true);
          }}
        >
          Show the whole run
        </Button>
      )}
      <span className="system-counts">{counts}</span>
    </div>
  );
}

function PanelSkeletons() {
  return (
    <div className="system-scroll" role="status" aria-label="Loading charts">
      <div className="system-grid skeletons">
        {Array.from({ length: 6 }, (_, i) => (
          <div key={i} className="system-panel card">
            <div className="system-cover loading" />
          </div>
        ))}
      </div>
    </div>
  );
}

function useTellers(run: Run, metrics: readonly SystemMetric[], isGrowing: boolean): Tellers {
  const known = useRunWriters(run.path, isGrowing).data;
  const tellers = useMemo(() => tellersOf(metrics, known ?? []), [metrics, known]);
  return useStable(tellers);
}

/** When the run began: by its machine's clock, as samples are; not behind the first sample. */
function useStartMs(run: Run, metrics: readonly SystemMetric[]): number {
  const start = run.startTime ?? run.createTime;
  const first = Math.min(...metrics.map(({ firstMs }) => firstMs));
  return start === undefined ? first : timestampMs(start);
}

function extentOf(metrics: readonly SystemMetric[], startMs: number): readonly [number, number] {
  const first = Math.min(startMs, ...metrics.map(({ firstMs }) => firstMs));
  const last = Math.max(first + 1_000, ...metrics.map(({ lastMs }) => lastMs));
  return [first, last];
}

function countText(metrics: readonly SystemMetric[], { nodes, processes }: Tellers): string {
  const parts = [`${formatCount(metrics.length)} metrics`];
  if (nodes.length > 1) parts.push(`${formatCount(nodes.length)} nodes`);
  if (processes.length > 1) parts.push(`${formatCount(processes.length)} processes`);
  return parts.join(" · ");
}

/** The same object for as long as it says the same: charts are not asked for anew because a list came again. */
function useStable<T>(value: T): T {
  const [kept, setKept] = useState(value);
  const text = JSON.stringify(value);
  const keptText = useMemo(() => JSON.stringify(kept), [kept]);
  if (text !== keptText) setKept(value);
  return text === keptText ? kept : value;
}
