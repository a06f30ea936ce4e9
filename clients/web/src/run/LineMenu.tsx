// Chooses the lines of a run's charts, and says which there are.
import { Popover } from "radix-ui";
import { useState } from "react";
import { useRunWriters } from "../api/lifeQueries";
import { isLive } from "../api/runState";
import type { Run } from "../api/types";
import { formatCount } from "../charts/format";
import { Button, Hint, SearchInput } from "../ui/controls";
import { SkeletonRows } from "../ui/feedback";
import { CheckIcon, ChevronDown, CloseIcon } from "../ui/icons";
import { labelsOf, LINES_MAX, type LineChoice, type RunLines } from "./lineChoice";

const LISTED_MAX = 200;
const SUPERSEDED_HINT = "What a rewind superseded is kept. It is left out of the current history, and drawn with this.";

export function LineMenu({ run, lines }: { run: Run; lines: RunLines }) {
  return (
    <Popover.Root>
      <Popover.Trigger asChild>
        <Button className={`small ${isUsual(lines.choice) ? "" : "on"}`} title="Which lines the charts have">
          {nameOf(lines.choice)} <ChevronDown size={11} />
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content className="menu line-menu" align="start" sideOffset={4} collisionPadding={8}>
          <MenuContent run={run} lines={lines} />
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function MenuContent({ run, lines: { choice, choose } }: { run: Run; lines: RunLines }) {
  const hasAttempts = run.attemptCount > 1;
  const isBand = choice.labels.length === 0 && !choice.isByAttempt;
  return (
    <>
      <Item
        role="menuitemradio"
        text="All writers together"
        isOn={isBand}
        onClick={() => {
          choose({ labels: [], isByAttempt: false });
        }}
      />
      {hasAttempts ? (
        <>
          <Item
            role="menuitemradio"
            text="Each attempt"
            isOn={choice.isByAttempt}
            onClick={() => {
              choose({ labels: [], isByAttempt: true, isAllAttempts: false });
            }}
          />
          <Hint text={SUPERSEDED_HINT} side="right">
            <Item
              role="menuitemcheckbox"
              text="Superseded points, too"
              isOn={choice.isAllAttempts || choice.isByAttempt}
              isOff={choice.isByAttempt}
              onClick={() => {
                choose({ isAllAttempts: !choice.isAllAttempts });
              }}
            />
          </Hint>
        </>
      ) : null}
      <WriterChoices run={run} choice={choice} choose={choose} />
    </>
  );
}

function WriterChoices({ run, choice, choose }: { run: Run; choice: LineChoice; choose: RunLines["choose"] }) {
  const [search, setSearch] = useState("");
  const answer = useRunWriters(run.path, isLive(run.state));
  if (answer.data === undefined) {
    return answer.error === null ? <SkeletonRows count={4} height={28} /> : <p className="nothing">The writers could not be read.</p>;
  }
  const labels = labelsOf(answer.data);
  if (labels.length < 2) return null;
  const found = labels.filter((label) => label.toLowerCase().includes(search.toLowerCase()));
  const isFull = choice.labels.length >= LINES_MAX;
  return (
    <fieldset>
      <legend>Writers alone{isFull ? `, ${LINES_MAX} at most` : ""}</legend>
      {labels.length > 8 ? <SearchInput label="Search writers" text={search} onText={setSearch} /> : null}
      <div className="line-choices">
        {found.slice(0, LISTED_MAX).map((label) => {
          const isOn = choice.labels.includes(label);
          return (
            <Item
              key={label}
              role="menuitemcheckbox"
              text={label}
              isOn={isOn}
              isOff={isFull && !isOn}
              onClick={() => {
                const others = choice.labels.filter((one) => one !== label);
                choose({ labels: isOn ? others : [...others, label], isByAttempt: false });
              }}
            />
          );
        })}
        {found.length === 0 ? <p className="nothing">No writer's label contains “{search}”.</p> : null}
        {found.length > LISTED_MAX ? <p className="nothing">{formatCount(found.length)} writers; search for the others.</p> : null}
      </div>
    </fieldset>
  );
}

interface ItemProps {
  readonly role: "menuitemradio" | "menuitemcheckbox";
  readonly text: string;
  readonly isOn: boolean;
  readonly isOff?: boolean;
  readonly onClick: () => void;
}

function Item({ role, text, isOn, isOff = false, ...rest }: ItemProps) {
  return (
    <button type="button" role={role} aria-checked={isOn} className="menu-item" disabled={isOff} {...rest}>
      <span className="cut" title={text}>
        {text}
      </span>
      <span className="menu-check">{isOn ? <CheckIcon /> : null}</span>
    </button>
  );
}

/** The legend of lines that were chosen, and what the address asks for in vain. */
export function LineLegend({ lines: { lines, choice, problems, choose } }: { lines: RunLines }) {
  const named = lines?.filter(({ name }) => name !== "") ?? [];
  if (named.length === 0 && problems.length === 0) return null;
  return (
    <div className="line-legend">
      {named.map(({ key, name, style }) => (
        <span key={key} className="line-chip">
          <svg width="18" height="8" aria-hidden="true">
            <path d="M0 4h18" stroke={`var(--run-${style?.colourIndex ?? 0})`} strokeWidth="2" strokeDasharray={style?.dash.join(" ")} />
          </svg>
          {name}
          {choice.isByAttempt ? null : (
            <button
              type="button"
              aria-label={`Draw ${name} no more`}
              onClick={() => {
                choose({ labels: choice.labels.filter((label) => label !== key) });
              }}
            >
              <CloseIcon size={10} />
            </button>
          )}
        </span>
      ))}
      {problems.length === 0 ? null : (
        <span className="line-problem" role="alert">
          {problems.join(" ")} {named.length === 0 ? "All writers are drawn together." : ""}
          {choice.isByAttempt ? null : (
            <Button
              className="small"
              onClick={() => {
                choose({ labels: named.map(({ key }) => key) });
              }}
            >
              Forget
            </Button>
          )}
        </span>
      )}
    </div>
  );
}

function isUsual({ labels, isByAttempt, isAllAttempts }: LineChoice): boolean {
  return labels.length === 0 && !isByAttempt && !isAllAttempts;
}

function nameOf({ labels, isByAttempt, isAllAttempts }: LineChoice): string {
  const lines = isByAttempt
    ? "Each attempt"
    : labels.length === 0
      ? "All writers"
      : labels.length === 1
        ? (labels[0] ?? "")
        : `${labels.length} writers`;
  return isAllAttempts && !isByAttempt ? `${lines}, superseded too` : lines;
}
