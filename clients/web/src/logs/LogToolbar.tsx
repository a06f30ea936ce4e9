// The bar above a log: search, filters, a time to go to, and how lines are shown.
import { type ReactNode, useState } from "react";
import { Button, Hint, IconButton, SearchInput } from "../ui/controls";
import { ArrowDown, ArrowUp, ClockIcon, WrapIcon } from "../ui/icons";
import { useDelayed } from "../ui/view";
import { CONTEXT_COUNTS, type LogsAddress } from "./address";
import { formatShortStamp, readTyped } from "./times";

export interface LogToolbarProps {
  readonly address: LogsAddress;
  readonly change: (change: Partial<LogsAddress>, isStep?: boolean) => void;
  /** What is wrong with the search; empty: nothing. */
  readonly searchError: string;
  /** How many lines are found so far, and which one is looked at; null: no search. */
  readonly found: string | null;
  readonly onMatch: (isBackward: boolean) => void;
  readonly writers: readonly (readonly [number, string])[];
  readonly firstMs: number;
  readonly lastMs: number;
  /** Null: the run has ended, there is nothing to follow. */
  readonly isFollowing: boolean | null;
  readonly onFollow: () => void;
  readonly children: ReactNode;
}

const SEARCH_ERROR_ID = "log-search-error";
const STREAMS = [
  [null, "All"],
  ["stdout", "stdout"],
  ["stderr", "stderr"],
] as const;

export function LogToolbar(props: LogToolbarProps) {
  const { address, change, writers } = props;
  return (
    <div className="log-bar">
      <SearchControls {...props} />
      {writers.length > 1 ? (
        <select
          className="log-select"
          aria-label="Writer"
          value={address.writer ?? ""}
          onChange={(event) => {
            change({ writer: event.target.value === "" ? null : Number(event.target.value), line: null }, true);
          }}
        >
          <option value="">All writers</option>
          {writers.map(([writer, label]) => (
            <option key={writer} value={writer}>
              {label}
            </option>
          ))}
        </select>
      ) : null}
      <span className="log-group" role="group" aria-label="Stream">
        {STREAMS.map(([stream, label]) => (
          <button
            key={label}
            type="button"
            aria-pressed={address.stream === stream}
            onClick={() => {
              change({ stream, line: null }, true);
            }}
          >
            {label}
          </button>
        ))}
      </span>
      <TimeField key={address.timeMs ?? ""} {...props} />
      <span className="spacer" />
      {props.isFollowing === null ? null : (
        <Button className={`small ${props.isFollowing ? "primary" : ""}`} aria-pressed={props.isFollowing} onClick={props.onFollow}>
          <ArrowDown size={12} /> Follow
        </Button>
      )}
      <IconButton
        label={address.hasTimes ? "Hide times" : "Show times"}
        isOn={address.hasTimes}
        onClick={() => {
          change({ hasTimes: !address.hasTimes });
        }}
      >
        <ClockIcon />
      </IconButton>
      <IconButton
        label="Wrap long lines"
        isOn={address.isWrapped}
        onClick={() => {
          change({ isWrapped: !address.isWrapped });
        }}
      >
        <WrapIcon />
      </IconButton>
      {props.children}
    </div>
  );
}

function SearchControls({ address, change, searchError, found, onMatch }: LogToolbarProps) {
  const [text, setText] = useDelayed(
    address.search,
    (search) => {
      // A new search begins at its results; emptied, one is back where one was.
      change({ search, ...(search === "" ? {} : { line: null }) });
    },
    300,
  );
  return (
    <div className="log-search">
      <div className="log-search-field">
        <SearchInput
          label={address.isExpression ? "Search by regular expression" : "Search the whole log"}
          text={text}
          onText={setText}
          hasShortcut
          onEnter={onMatch}
          errorId={searchError === "" ? undefined : SEARCH_ERROR_ID}
        />
        {searchError === "" ? null : (
          <p id={SEARCH_ERROR_ID} className="log-search-error" role="alert">
            {searchError}
          </p>
        )}
      </div>
      <span className="log-group" role="group" aria-label="How to search">
        <Hint text="Match capital letters">
          <button
            type="button"
            aria-label="Match capital letters"
            aria-pressed={address.isCaseSensitive}
            onClick={() => {
              change({ isCaseSensitive: !address.isCaseSensitive });
            }}
          >
            Aa
          </button>
        </Hint>
        <Hint text="Regular expression (RE2)">
          <button
            type="button"
            aria-label="Regular expression"
            aria-pressed={address.isExpression}
            onClick={() => {
              change({ isExpression: !address.isExpression });
            }}
          >
            .*
          </button>
        </Hint>
      </span>
      {found === null ? null : (
        <>
          <select
            className="log-select"
            aria-label="Lines around each match"
            value={address.contextLineCount}
            onChange={(event) => {
              change({ contextLineCount: Number(event.target.value) });
            }}
          >
            {CONTEXT_COUNTS.map((count) => (
              <option key={count} value={count}>
                {count === 0 ? "only matches" : `± ${count} lines`}
              </option>
            ))}
          </select>
          <span className="log-found" role="status">
            {found}
          </span>
          <IconButton
            label="Previous match (Shift+Enter)"
            onClick={() => {
              onMatch(true);
            }}
          >
            <ArrowUp />
          </IconButton>
          <IconButton
            label="Next match (Enter)"
            onClick={() => {
              onMatch(false);
            }}
          >
            <ArrowDown />
          </IconButton>
        </>
      )}
    </div>
  );
}

function TimeField({ address, change, firstMs, lastMs }: LogToolbarProps) {
  const shown = address.timeMs === null ? "" : formatShortStamp(address.timeMs, firstMs);
  const [text, setText] = useState(shown);
  const [isWrong, setWrong] = useState(false);
  const go = (): void => {
    const timeMs = text.trim() === "" ? null : readTyped(text, firstMs, lastMs);
    setWrong(timeMs === null && text.trim() !== "");
    if (timeMs !== null || text.trim() === "") change({ timeMs, line: null }, true);
  };
  return (
    <Hint text={isWrong ? "hh:mm, hh:mm:ss, or a date: 2026-01-31 09:30" : address.timeMs === null ? "Go to a time: hh:mm, hh:mm:ss or a date" : "The log is shown and searched from this time on"}>
      <input
        className={`log-time-field ${address.timeMs === null ? "" : "on"}`}
        type="text"
        aria-label="Go to time"
        placeholder="hh:mm:ss or date"
        value={text}
        aria-invalid={isWrong}
        spellCheck={false}
        autoComplete="off"
        onChange={(event) => {
          setText(event.target.value);
          setWrong(false);
          if (event.target.value === "" && address.timeMs !== null) change({ timeMs: null }, true);
        }}
        onBlur={() => {
          if (text !== shown) go();
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") go();
        }}
      />
    </Hint>
  );
}
