// Keeps a window of a run's log: loads its beginning, reads on at both ends, and follows what is printed. No React.
import { isGivenUp, type LineFilter, type LinesAsk, type LinesPage, listConsoleLines, pause } from "../api/console";
import { isWorthRetrying } from "../api/errors";
import { formatLinePlace, type LinePlace } from "./address";
import { findLineTime } from "./findLine";
import {
  addEarlier,
  addLater,
  applyChanges,
  type Cursor,
  EMPTY_WINDOW,
  indexOfKey,
  type LineWindow,
  placeIndex,
  trimWindow,
  windowOf,
} from "./window";

/** Where the window is to begin. */
export type Start =
  | { readonly kind: "end" }
  | { readonly kind: "beginning" }
  | { readonly kind: "time"; readonly timeMs: number }
  | { readonly kind: "line"; readonly place: LinePlace };

export interface Target {
  readonly key: string | null;
  readonly wish: number;
  readonly isFound: boolean;
  readonly align: "start" | "center";
}

export interface ReaderState {
  readonly phase: "loading" | "ready" | "failed";
  /** Why the window could not be loaded. */
  readonly error: unknown;
  readonly window: LineWindow;
  /** The line that is to be shown, and a number that grows with each wish; null: the end. */
  readonly target: Target;
  readonly isLoadingEarlier: boolean;
  readonly isLoadingLater: boolean;
  /** Why reading on failed. */
  readonly edgeError: unknown;
  /** True while following does not reach the server. */
  readonly isLost: boolean;
  /** Lines that came at the end since the reader was last there. */
  readonly unseen: number;
}

export interface ReaderView {
  readonly index: number;
  readonly key: string | null;
  readonly offset: number;
  readonly isAtEnd: boolean;
  /** The last wish for a line that the view has gone to. */
  readonly wish: number;
}

const PAGE_SIZE = 1_000;
const CHANGES_PAGE_SIZE = 10_000;
const PAGES_OF_ONE_TIME_MAX = 30;
const FOLLOW_INTERVAL_MS = 1_000;
const LOST_INTERVAL_MS = 2_000;

const CLOSED: ReaderState = {
  phase: "loading",
  error: null,
  window: EMPTY_WINDOW,
  target: { key: null, wish: 0, isFound: true, align: "center" },
  isLoadingEarlier: false,
  isLoadingLater: false,
  edgeError: null,
  isLost: false,
  unseen: 0,
};

export class LogReader {
  /** Where the person reads: a line and how far the view begins below its top, and whether the end is in view. */
  view: ReaderView = { index: 0, key: null, offset: 0, isAtEnd: true, wish: 0 };
  private state: ReaderState = CLOSED;
  private readonly listeners = new Set<() => void>();
  private loads = new AbortController();
  private following: AbortController | null = null;
  private changesToken = "";
  private start: Start = { kind: "end" };

  constructor(
    private readonly runPath: string,
    private readonly filter: LineFilter,
    private readonly list: (ask: LinesAsk, signal: AbortSignal) => Promise<LinesPage> = listConsoleLines,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): ReaderState => this.state;

  /** Shows that place: at once if it is here, else the window is loaded anew. */
  show(start: Start): void {
    this.start = start;
    const { window, phase, target } = this.state;
    if (phase === "ready") {
      const key = start.kind === "end" && window.later === null ? null : start.kind === "line" ? keyOfPlace(start.place) : undefined;
      if (key === null || (key !== undefined && indexOfKey(window.lines, key) >= 0)) {
        this.set({ target: { key, wish: target.wish + 1, isFound: true, align: "center" } });
        return;
      }
    }
    void this.load();
  }

  /** Loads the window again, from where it was to begin. */
  readonly retry = (): void => {
    void this.load();
  };

  /** Gives all calls up. */
  close(): void {
    this.loads.abort();
    this.follow(false);
  }

  /** The reader has seen the end. */
  seen(): void {
    if (this.state.unseen > 0) this.set({ unseen: 0 });
  }

  readonly loadEarlier = (): Promise<void> => this.readOn(true);
  readonly loadLater = (): Promise<void> => this.readOn(false);

  /** Begins or ends following. */
  follow(isWanted: boolean): void {
    if (!isWanted) {
      this.following?.abort();
      this.following = null;
      if (this.state.isLost) this.set({ isLost: false });
    } else if (this.following === null) {
      this.following = new AbortController();
      void this.keepFollowing(this.following.signal);
    }
  }

  private set(change: Partial<ReaderState>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener();
  }

  private async load(): Promise<void> {
    this.loads.abort();
    this.loads = new AbortController();
    const { signal } = this.loads;
    this.set({ ...CLOSED, target: this.state.target, isLost: this.state.isLost });
    try {
      const { window, key, isFound } = await this.firstWindow(this.start, signal);
      if (signal.aborted) return;
      const index = key === null ? window.lines.length : Math.max(0, indexOfKey(window.lines, key));
      this.view = { ...this.view, index, key, offset: 0, isAtEnd: key === null };
      this.set({ phase: "ready", window, target: { key, wish: this.state.target.wish + 1, isFound, align: this.start.kind === "line" ? "center" : "start" } });
    } catch (error) {
      if (!signal.aborted && !isGivenUp(error)) this.set({ phase: "failed", error });
    }
  }

  private async firstWindow(start: Start, signal: AbortSignal): Promise<{ window: LineWindow; key: string | null; isFound: boolean }> {
    if (start.kind === "end" || start.kind === "beginning") {
      const isNewestFirst = start.kind === "end";
      const page = await this.page({ isNewestFirst, cursor: { timeMs: null, token: "" } }, signal);
      this.changesToken = page.changesToken;
      const rest = cursorBehind(page, null);
      const window = isNewestFirst ? windowOf(page.lines, rest, null) : windowOf(page.lines, null, rest);
      return { window, key: isNewestFirst ? null : (page.lines[0]?.key ?? null), isFound: true };
    }
    if (start.kind === "time") {
      const window = await this.windowAround(start.timeMs, signal);
      const index = placeIndex(window.lines, (line) => line.timeMs < start.timeMs);
      return { window, key: window.lines[index]?.key ?? null, isFound: true };
    }
    return this.windowAroundLine(start.place, signal);
  }

  private async windowAroundLine(place: LinePlace, signal: AbortSignal): Promise<{ window: LineWindow; key: string | null; isFound: boolean }> {
    const key = keyOfPlace(place);
    if (place.timeMs !== null) {
      const window = await this.windowAround(place.timeMs, signal, key);
      if (indexOfKey(window.lines, key) >= 0) return { window, key, isFound: true };
    }
    const filter: LineFilter = { ...this.filter, writers: [place.writer], firstTimeMs: undefined };
    const timeMs = await findLineTime(place, (firstTimeMs) =>
      this.list(
        {
          runPath: this.runPath,
          filter: firstTimeMs === null ? filter : { ...filter, firstTimeMs },
          isNewestFirst: firstTimeMs === null,
          pageSize: PAGE_SIZE,
        },
        signal,
      ),
    );
    if (timeMs === null) return { ...(await this.firstWindow({ kind: "end" }, signal)), isFound: false };
    const window = await this.windowAround(timeMs, signal, key);
    return { window, key, isFound: indexOfKey(window.lines, key) >= 0 };
  }

  /** A page before the time and one from it on; more while a wanted line of that time has not come. */
  private async windowAround(timeMs: number, signal: AbortSignal, key?: string): Promise<LineWindow> {
    const [before, behind] = await Promise.all([
      this.page({ isNewestFirst: true, cursor: { timeMs: timeMs - 1, token: "" } }, signal),
      this.page({ isNewestFirst: false, cursor: { timeMs, token: "" } }, signal),
    ]);
    this.changesToken = behind.changesToken;
    let window = windowOf([...before.lines, ...behind.lines], cursorBehind(before, timeMs - 1), cursorBehind(behind, timeMs));
    for (let count = 0; key !== undefined && count < PAGES_OF_ONE_TIME_MAX; count++) {
      const last = window.lines.at(-1);
      if (window.later === null || last === undefined || last.timeMs > timeMs || indexOfKey(window.lines, key) >= 0) break;
      const page = await this.page({ isNewestFirst: false, cursor: window.later }, signal);
      this.changesToken = page.changesToken;
      window = addLater(window, page.lines, cursorBehind(page, window.later.timeMs));
    }
    return window;
  }

  private async readOn(isEarlier: boolean): Promise<void> {
    const { window, phase, isLoadingEarlier, isLoadingLater } = this.state;
    const cursor = isEarlier ? window.earlier : window.later;
    if (cursor === null || phase !== "ready" || isLoadingEarlier || isLoadingLater) return;
    const { signal } = this.loads;
    this.set({ [isEarlier ? "isLoadingEarlier" : "isLoadingLater"]: true, edgeError: null });
    try {
      let next: Cursor | null = cursor;
      let isGrown = false;
      // A page that begins anew at a time may hold only what is here.
      for (let pages = 0; pages < PAGES_OF_ONE_TIME_MAX && next !== null && !isGrown; pages++) {
        const page: LinesPage = await this.page({ isNewestFirst: isEarlier, cursor: next }, signal);
        if (signal.aborted) return;
        next = cursorBehind(page, next.timeMs);
        if (!isEarlier && next === null) this.changesToken = page.changesToken;
        const grown = isEarlier ? addEarlier(this.state.window, page.lines, next) : addLater(this.state.window, page.lines, next);
        isGrown = grown.lines.length > this.state.window.lines.length;
        this.set({ window: trimWindow(grown, isEarlier ? 0 : grown.lines.length) });
      }
    } catch (error) {
      if (!signal.aborted && !isGivenUp(error)) this.set({ edgeError: error });
    } finally {
      if (!signal.aborted) this.set({ isLoadingEarlier: false, isLoadingLater: false });
    }
  }

  private page({ isNewestFirst, cursor }: { isNewestFirst: boolean; cursor: Cursor }, signal: AbortSignal): Promise<LinesPage> {
    const bound = cursor.timeMs === null ? {} : isNewestFirst ? { lastTimeMs: cursor.timeMs } : { firstTimeMs: cursor.timeMs };
    return this.list(
      { runPath: this.runPath, filter: { ...this.filter, ...bound }, isNewestFirst, pageSize: PAGE_SIZE, pageToken: cursor.token },
      signal,
    );
  }

  private async keepFollowing(signal: AbortSignal): Promise<void> {
    let delayMs = FOLLOW_INTERVAL_MS;
    for (;;) {
      await pause(delayMs, signal);
      if (signal.aborted) return;
      const { phase, window, isLoadingLater } = this.state;
      if (document.hidden || phase !== "ready" || window.later !== null || isLoadingLater) continue;
      try {
        await this.takeChanges(signal);
        delayMs = FOLLOW_INTERVAL_MS;
      } catch (error) {
        if (signal.aborted || isGivenUp(error)) return;
        delayMs = LOST_INTERVAL_MS;
        if (isWorthRetrying(error)) this.set({ isLost: true });
        // The token means nothing to this server, or the run is gone: begin anew, which tells.
        else void this.load();
      }
    }
  }

  private async takeChanges(signal: AbortSignal): Promise<void> {
    const loads = this.loads.signal;
    const page = await this.list(
      { runPath: this.runPath, filter: this.filter, isNewestFirst: false, pageSize: CHANGES_PAGE_SIZE, changesToken: this.changesToken },
      signal,
    );
    // Another window may have been loaded meanwhile.
    if (signal.aborted || loads.aborted || this.state.window.later !== null) return;
    if (this.state.isLost) this.set({ isLost: false });
    if (page.isCut) {
      await this.endAnew(signal);
      return;
    }
    this.changesToken = page.changesToken;
    const { window, appended } = applyChanges(this.state.window, page.lines);
    if (window === this.state.window) return;
    const index = this.view.isAtEnd ? window.lines.length : this.view.index;
    this.set({ window: trimWindow(window, index), unseen: this.state.unseen + appended });
  }

  /** More came than a reply holds: the end is read again if it is in view; else it is let go, for reading on to find. */
  private async endAnew(signal: AbortSignal): Promise<void> {
    const { window } = this.state;
    const last = window.lines.at(-1);
    const isSearch = this.filter.contains !== "" || this.filter.matches !== "";
    if ((isSearch || !this.view.isAtEnd) && last !== undefined) {
      this.set({ window: { ...window, later: { timeMs: last.timeMs, token: "" } } });
      return;
    }
    const fresh = await this.firstWindow({ kind: "end" }, signal);
    const { target } = this.state;
    if (!signal.aborted) this.set({ window: fresh.window, target: { ...target, key: null, wish: target.wish + 1 } });
  }
}

function keyOfPlace({ writer, line }: LinePlace): string {
  return formatLinePlace({ writer, line, timeMs: null });
}

function cursorBehind(page: LinesPage, timeMs: number | null): Cursor | null {
  return page.nextPageToken === "" ? null : { timeMs, token: page.nextPageToken };
}
