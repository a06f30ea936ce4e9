// A file's text: as lines, and where it is JSON, a table or HTML, also as what it means.
import { useMemo, useState } from "react";
import { formatCount } from "../charts/format";
import { Choice } from "./Choice";
import { readDelimited } from "./delimited";
import { JsonTree } from "./JsonTree";
import type { Kind } from "./kind";
import { TextLines } from "./TextLines";

interface TextContentProps {
  readonly kind: Kind;
  readonly name: string;
  readonly text: string;
  /** Whether the text is only the beginning of the file. */
  readonly isPart: boolean;
}

const MEANINGS: Partial<Record<Kind, string>> = { json: "Tree", table: "Table", html: "Page" };

export function TextContent({ kind, name, text, isPart }: TextContentProps) {
  const json = useMemo(() => (kind === "json" && !isPart ? parsed(text) : undefined), [kind, text, isPart]);
  const meaning = kind === "json" && json === undefined ? undefined : MEANINGS[kind];
  // HTML is code first: it is shown as a page only when somebody asks.
  const [isMeant, setMeant] = useState(kind !== "html");
  if (meaning === undefined) return <TextLines text={text} />;
  return (
    <>
      <Choice
        label="Show as"
        options={[meaning, "Text"]}
        chosen={isMeant ? meaning : "Text"}
        onChoose={(option) => {
          setMeant(option === meaning);
        }}
      />
      {!isMeant ? (
        <TextLines text={text} />
      ) : kind === "json" ? (
        <JsonTree value={json?.value} />
      ) : kind === "table" ? (
        <DelimitedTable text={text} isTabs={name.toLowerCase().endsWith(".tsv")} isPart={isPart} />
      ) : (
        <SandboxedPage text={text} name={name} />
      )}
    </>
  );
}

/** A page in a frame that may do nothing: no scripts, no forms, no windows, an origin of its own. */
function SandboxedPage({ text, name }: { text: string; name: string }) {
  return (
    <>
      <p className="file-part" role="note">
        Scripts do not run here, and what the page loads from elsewhere is left out. Download the file to open it as it is.
      </p>
      <iframe className="file-document card page" srcDoc={text} sandbox="" title={name} />
    </>
  );
}

function DelimitedTable({ text, isTabs, isPart }: { text: string; isTabs: boolean; isPart: boolean }) {
  const { head, rows, isCut } = useMemo(() => readDelimited(text, isTabs ? "\t" : ",", isPart), [text, isTabs, isPart]);
  return (
    <>
      <p className="file-part" role="note">
        {`${formatCount(rows.length)} ${rows.length === 1 ? "row" : "rows"}, ${formatCount(head.length)} ${head.length === 1 ? "column" : "columns"}`}
        {isCut ? "; there are more in the file" : ""}
      </p>
      <div className="file-table card">
        <table>
          <thead>
            <tr>
              <th className="file-row-number" aria-label="Row" />
              {head.map((cell, index) => (
                <th key={index}>{cell}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, index) => (
              <tr key={index}>
                <td className="file-row-number">{index + 1}</td>
                {head.map((_, column) => (
                  <td key={column} className={isNumber(row[column]) ? "number" : ""}>
                    {row[column] ?? ""}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function isNumber(cell: string | undefined): boolean {
  return cell !== undefined && cell.trim() !== "" && Number.isFinite(Number(cell));
}

function parsed(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}
