// A plot value of one step: its data from the value or from its file, and how it is drawn.
import { useMemo, useRef } from "react";
import { describeError } from "../api/errors";
import { type MediaEntry, numberOf, textOf, useFileText } from "../api/media";
import { openFile } from "../api/openFile";
import { formatCount } from "../charts/format";
import { Button } from "../ui/controls";
import { useSeen } from "./Picture";
import { PlotlyView } from "./PlotlyView";
import { parseData, plotShape, type PlotShape, readData } from "./plotModel";
import { PlotView } from "./PlotView";

export function PlotValue({ entry, width, height, label }: { entry: MediaEntry; width: number; height: number; label: string }) {
  const item = entry.items[0];
  const host = useRef<HTMLDivElement>(null);
  const isSeen = useSeen(host);
  const file = item === undefined ? "" : textOf(item, "file");
  const isRead = file !== "";
  const isPlotly = textOf(item ?? {}, "chart") === "plotly";
  const text = useFileText(entry.fileRunPath, file, isSeen && isRead);
  const data = useMemo(() => (item === undefined || isPlotly ? new Map() : isRead ? parseData(text.data ?? "") : readData(item["data"])), [item, isRead, isPlotly, text.data]);
  const shape = useMemo(() => plotShape(item ?? {}, data), [item, data]);
  if (item === undefined) return null;
  const encoding = item["encoding"];
  const axis = (title: string, role: string): string => {
    const given = textOf(item, title);
    if (given !== "" || encoding === undefined || encoding === null || typeof encoding !== "object" || Array.isArray(encoding)) return given;
    return "text" in encoding ? "" : textOf(encoding, role);
  };
  const total = numberOf(item, "total_count");
  const note = textOf(item, "note");
  const foot = note !== "" ? note : total !== null && total > (numberOf(item, "row_count") ?? 0) ? `${formatCount(numberOf(item, "row_count") ?? 0)} of ${formatCount(total)} rows` : "";
  const title = textOf(item, "title");
  const inner = height - (title === "" ? 0 : 18) - (foot === "" ? 0 : 16);
  return (
    <div ref={host} className="plot-value" style={{ width, height }}>
      {title === "" ? null : <p className="plot-title cut">{title}</p>}
      <div className="plot-area" style={{ height: inner }}>
        {isRead && text.error !== null ? (
          <p className="panel-cover muted">The data cannot be read: {describeError(text.error).detail}</p>
        ) : isRead && text.data === undefined ? (
          <div className="panel-cover loading" aria-hidden="true" />
        ) : shape.kind === "none" ? (
          <div className="panel-cover">
            <p className="muted">{shape.reason}</p>
            {file === "" ? null : (
              <Button
                className="small"
                onClick={() => {
                  void openFile(entry.fileRunPath, file).catch(() => undefined);
                }}
              >
                Open file
              </Button>
            )}
          </div>
        ) : shape.kind === "plotly" ? (
          <PlotlyView text={text.data ?? ""} width={width} height={inner} label={title === "" ? label : title} />
        ) : shape.kind === "table" ? (
          <DataTable shape={shape} />
        ) : (
          <PlotView shape={shape} width={width} height={inner} xTitle={axis("x_title", "x")} yTitle={axis("y_title", "y")} label={title === "" ? label : title} />
        )}
      </div>
      {foot === "" ? null : <p className="plot-note cut">{foot}</p>}
    </div>
  );
}

function DataTable({ shape }: { shape: PlotShape & { kind: "table" } }) {
  return (
    <div className="plot-table">
      <table>
        <thead>
          <tr>
            {shape.columns.map((name) => (
              <th key={name}>{name}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shape.rows.map((row, i) => (
            <tr key={i}>
              {row.map((cell, column) => (
                <td key={column}>{cell === null ? "" : String(cell)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {shape.notShown === 0 ? null : <p className="muted">{formatCount(shape.notShown)} more rows in the file</p>}
    </div>
  );
}
