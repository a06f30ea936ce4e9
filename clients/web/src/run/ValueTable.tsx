// A config or a summary as a table that can be searched: exact values, each can be copied.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useState } from "react";
import { ExactNumber, type ExtendedObject, type ExtendedValue, flatten, valueText } from "../api/extendedJson";
import { formatCount, formatShort } from "../charts/format";
import { CopyButton, SearchInput } from "../ui/controls";
import { SkeletonRows } from "../ui/feedback";
import { useDelayed, useView } from "../ui/view";

interface ValueTableProps {
  readonly title: string;
  /** Null while loading. */
  readonly values: ExtendedObject | null;
  readonly empty: string;
  /** Name of the search in the address. */
  readonly param: string;
  readonly note?: string;
}

const ROW_HEIGHT = 26;
const HEIGHT_MAX = 520;
const NATURAL = new Intl.Collator("en", { numeric: true });

export function ValueTable({ title, values, empty, param, note = "" }: ValueTableProps) {
  const [view, change] = useView();
  const search = view.get(param) ?? "";
  const [text, setText] = useDelayed(search, (next) => {
    change({ [param]: next });
  });
  const rows = useMemo(
    () => (values === null ? [] : flatten(values).sort(([a], [b]) => NATURAL.compare(a, b))),
    [values],
  );
  const shown = useMemo(() => rows.filter(([key, value]) => matches(key, value, search)), [rows, search]);
  return (
    <section className="card value-table">
      <header>
        <h2 className="card-title">
          {title} <span className="tab-count">{values === null ? "…" : formatCount(rows.length)}</span>
        </h2>
        <SearchInput label={`Search ${title.toLowerCase()}`} text={text} onText={setText} />
      </header>
      {values === null ? (
        <SkeletonRows count={6} height={ROW_HEIGHT} />
      ) : rows.length === 0 ? (
        <p className="nothing">{empty}</p>
      ) : shown.length === 0 ? (
        <p className="nothing">Nothing here contains “{search}”.</p>
      ) : (
        <Rows rows={shown} />
      )}
      {note === "" ? null : <p className="nothing">{note}</p>}
    </section>
  );
}

function matches(key: string, value: ExtendedValue, search: string): boolean {
  const wanted = search.toLowerCase();
  return wanted === "" || key.toLowerCase().includes(wanted) || valueText(value).toLowerCase().includes(wanted);
}

function Rows({ rows }: { rows: readonly (readonly [string, ExtendedValue])[] }) {
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
   
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroll,
    estimateSize: () => ROW_HEIGHT,
    overscan: 12,
  });
  return (
    <div className="value-rows" ref={setScroll} style={{ height: Math.min(HEIGHT_MAX, rows.length * ROW_HEIGHT) }}>
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const row = rows[index];
          if (row === undefined) return null;
          const [key, value] = row;
          return (
            <div key={key} className="value-row" style={{ transform: `translateY(${start}px)`, height: ROW_HEIGHT }}>
              <span className="cut" title={key}>
                {key}
              </span>
              <Value value={value} />
              <CopyButton text={valueText(value)} label={`Copy ${valueText(value)}`} />
            </div>
          );
        })}
      </div>
    </div>
  );
}

function Value({ value }: { value: ExtendedValue }) {
  const exact = valueText(value);
  const isNumber = value instanceof ExactNumber;
  // Long fractions are shortened; integers never are: an id or a seed must be whole.
  const shown = isNumber && exact.length > 12 && !/^-?\d+$/.test(exact) ? formatShort(value.value) : exact;
  const kind = isNumber ? "number" : typeof value === "string" ? "text" : "other";
  return (
    <span className={`cut value ${kind}`} title={exact}>
      {shown === "" ? "“”" : shown}
    </span>
  );
}
