// Where a run came from, as a card of the overview: program, git, Python, machine, environment; nothing that is empty.
import { useMemo, useState } from "react";
import { describeError } from "../api/errors";
import { openFile } from "../api/openFile";
import type { Run } from "../api/types";
import { CopyButton } from "../ui/controls";
import { Fact } from "./Fact";
import { type OriginFact, originGroups } from "./origin";

export function OriginCard({ run }: { run: Run }) {
  const groups = useMemo(() => originGroups(run.host), [run.host]);
  const [failure, setFailure] = useState("");
  const open = (name: string): void => {
    openFile(run.path, name).then(
      () => {
        setFailure("");
      },
      (error: unknown) => {
        setFailure(`${name}: ${describeError(error).detail}`);
      },
    );
  };
  if (groups.length === 0) return null;
  return (
    <section className="card facts origin" aria-label="Where the run came from">
      {failure === "" ? null : (
        <p className="edit-error" role="alert">
          {failure}
        </p>
      )}
      {groups.map(({ title, facts }) => (
        <section key={title}>
          <h2 className="origin-title">{title}</h2>
          <dl>
            {facts.map((fact) => (
              <Fact key={fact.name} name={fact.name}>
                <Told fact={fact} open={open} />
                {fact.aside === undefined || fact.aside === "" ? null : <span className="muted">{fact.aside}</span>}
              </Fact>
            ))}
          </dl>
        </section>
      ))}
    </section>
  );
}

function Told({ fact, open }: { fact: OriginFact; open: (name: string) => void }) {
  const { text, file, url = "", lines = [] } = fact;
  if (file !== undefined) {
    return (
      <button
        type="button"
        className="origin-file"
        title={`Opens ${file}`}
        onClick={() => {
          open(file);
        }}
      >
        {text}
      </button>
    );
  }
  if (lines.length > 0) {
    return (
      <details className="origin-lines">
        <summary>{text}</summary>
        <pre className="evidence">{lines.join("\n")}</pre>
      </details>
    );
  }
  if (url !== "") {
    return (
      <a className="link" href={url} target="_blank" rel="noreferrer">
        <code>{text}</code>
      </a>
    );
  }
  if (fact.isCode === true) {
    return (
      <span className="copyable">
        <code>{text}</code>
        <CopyButton text={text} />
      </span>
    );
  }
  return <span className={fact.isProblem === true ? "muted" : undefined}>{text}</span>;
}
