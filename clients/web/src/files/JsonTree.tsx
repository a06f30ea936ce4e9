// JSON as a tree whose branches open and close.
import { useState } from "react";
import { formatCount } from "../charts/format";
import { ChevronDown, ChevronRight } from "../ui/icons";

/** Members of one branch that are shown at once. */
const STEP = 200;
/** Branches of fewer members than this are open at first, near the root. */
const OPEN_MEMBERS_MAX = 50;
const OPEN_DEPTH_MAX = 2;
const TEXT_LENGTH_MAX = 2_000;

export function JsonTree({ value }: { value: unknown }) {
  return (
    <div className="file-json card" role="tree" tabIndex={0} aria-label="JSON">
      <Node label={null} value={value} depth={0} />
    </div>
  );
}

function Node({ label, value, depth }: { label: string | null; value: unknown; depth: number }) {
  const members = membersOf(value);
  const [isOpen, setOpen] = useState(depth < OPEN_DEPTH_MAX && (members?.length ?? 0) <= OPEN_MEMBERS_MAX || depth === 0);
  const [count, setCount] = useState(STEP);
  const key = label === null ? null : <span className="json-key">{label}</span>;
  if (members === null) {
    return (
      <div className="json-leaf" role="treeitem" aria-selected={false}>
        {key}
        <Leaf value={value} />
      </div>
    );
  }
  const summary = Array.isArray(value) ? `[${formatCount(members.length)}]` : `{${formatCount(members.length)}}`;
  return (
    <div role="treeitem" aria-expanded={isOpen} aria-selected={false}>
      <button
        type="button"
        className="json-branch"
        onClick={() => {
          setOpen(!isOpen);
        }}
      >
        {isOpen ? <ChevronDown size={12} /> : <ChevronRight size={12} />}
        {key}
        <span className="muted">{summary}</span>
      </button>
      {isOpen ? (
        <div className="json-members" role="group">
          {members.slice(0, count).map(([name, member]) => (
            <Node key={name} label={name} value={member} depth={depth + 1} />
          ))}
          {members.length > count ? (
            <button
              type="button"
              className="link json-more"
              onClick={() => {
                setCount(count + STEP);
              }}
            >
              {`${formatCount(members.length - count)} more`}
            </button>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}

function Leaf({ value }: { value: unknown }) {
  if (typeof value === "string") {
    const shown = value.length > TEXT_LENGTH_MAX ? `${value.slice(0, TEXT_LENGTH_MAX)} … (${formatCount(value.length)} characters)` : value;
    return <span className="json-string">{JSON.stringify(shown)}</span>;
  }
  return <span className="json-plain">{String(value)}</span>;
}

function membersOf(value: unknown): [string, unknown][] | null {
  if (Array.isArray(value)) return value.map((member, index) => [String(index), member]);
  return typeof value === "object" && value !== null ? Object.entries(value) : null;
}
