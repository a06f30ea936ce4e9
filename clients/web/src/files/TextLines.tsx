// A text with the numbers of its lines; only those in view are drawn.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useState } from "react";
import { formatCount } from "../charts/format";

const LINE_HEIGHT = 18;
/** Longer lines are cut: a browser lays out a line of a million characters for seconds. */
const LINE_LENGTH_MAX = 20_000;

export function TextLines({ text }: { text: string }) {
  const lines = useMemo(() => linesOf(text), [text]);
  const longest = useMemo(() => lines.reduce((most, line) => Math.max(most, Math.min(line.length, LINE_LENGTH_MAX)), 0), [lines]);
  const [scroll, setScroll] = useState<HTMLDivElement | null>(null);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroll,
    estimateSize: () => LINE_HEIGHT,
    overscan: 20,
  });
  const numberWidth = `${String(lines.length).length + 2}ch`;
  return (
    // The keyboard scrolls what has the focus.
    <div className="file-text card" ref={setScroll} tabIndex={0} role="region" aria-label={`Text, ${formatCount(lines.length)} lines`}>
      <div className="file-lines" style={{ height: virtual.getTotalSize(), minWidth: `calc(${longest}ch + ${numberWidth} + 40px)` }}>
        {virtual.getVirtualItems().map(({ index, start }) => {
          const line = lines[index] ?? "";
          return (
            <div key={index} className="file-line" style={{ transform: `translateY(${start}px)`, height: LINE_HEIGHT }}>
              <span className="file-line-number" style={{ width: numberWidth }} data-number={index + 1} />
              <span className="file-line-text">{line.length > LINE_LENGTH_MAX ? `${line.slice(0, LINE_LENGTH_MAX)} …` : line}</span>
            </div>
          );
        })}
      </div>
    </div>
  );
}

function linesOf(text: string): string[] {
  const lines = text.split(/\r\n|\n|\r/);
  // What ends with a line break has no further line behind it.
  if (lines.length > 1 && lines.at(-1) === "") lines.pop();
  return lines;
}
