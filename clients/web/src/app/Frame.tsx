// The frame of every page: where one is, whether the server answers, and the theme.
import { Fragment, Suspense, useEffect } from "react";
import { Link, Outlet, useParams } from "react-router";
import { useConnection } from "../api/connection";
import { Hint, IconButton, Menu } from "../ui/controls";
import { SkeletonRows } from "../ui/feedback";
import { MoonIcon, ScreenIcon, SunIcon, TrashIcon } from "../ui/icons";
import { formatAgo, useNow } from "../ui/time";
import { projectAddress, runAddress } from "./paths";
import { setTheme, type ThemeChoice, useThemeChoice } from "./theme";

export function Frame() {
  return (
    <div className="frame">
      <header className="header">
        <Link to="/" className="brand" aria-label="runyard: all projects">
          <svg width="18" height="18" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="7" fill="var(--accent)" />
            <path
              d="M6 22c4 0 4-12 8-12s3 9 6.5 9S24 9 26 9"
              fill="none"
              stroke="var(--accent-text)"
              strokeWidth="3"
              strokeLinecap="round"
            />
          </svg>
          runyard
        </Link>
        <Breadcrumb />
        <span className="spacer" />
        <ConnectionSign />
        <Hint text="Trash">
          <Link to="/trash" className="icon-button" aria-label="Trash: deleted runs">
            <TrashIcon />
          </Link>
        </Hint>
        <ThemeMenu />
      </header>
      <main className="main">
        <Suspense fallback={<SkeletonRows count={8} />}>
          <Outlet />
        </Suspense>
      </main>
    </div>
  );
}

function Breadcrumb() {
  const { entity, project, run } = useParams();
  const parts: { to: string; text: string }[] = [];
  if (entity !== undefined) parts.push({ to: `/${encodeURIComponent(entity)}`, text: entity });
  if (entity !== undefined && project !== undefined) {
    parts.push({ to: projectAddress(entity, project), text: project });
    if (run !== undefined) parts.push({ to: runAddress(entity, project, run), text: run });
  }
  useEffect(() => {
    document.title = [run, project, entity, "runyard"].filter((part) => part !== undefined).join(" · ");
  }, [entity, project, run]);
  return (
    <nav className="breadcrumb" aria-label="Where you are">
      {parts.map(({ to, text }, i) => (
        <Fragment key={to}>
          <span className="muted" aria-hidden="true">
            /
          </span>
          <Link to={to} className="cut" title={text} aria-current={i === parts.length - 1 ? "page" : undefined}>
            {text}
          </Link>
        </Fragment>
      ))}
    </nav>
  );
}

function ConnectionSign() {
  const { state, sinceMs } = useConnection();
  const now = useNow(1_000);
  const words = {
    connecting: "connecting",
    live: "live",
    lost: `Connection lost ${formatAgo(sinceMs, now)}; what you see is from then. Trying again`,
  }[state];
  return (
    <span className={`connection ${state}`} role="status" title={state === "live" ? "The server answers" : ""}>
      <i aria-hidden="true" />
      {words}
    </span>
  );
}

const THEMES: { choice: ThemeChoice; label: string; icon: React.ReactNode }[] = [
  { choice: "light", label: "Light", icon: <SunIcon /> },
  { choice: "dark", label: "Dark", icon: <MoonIcon /> },
  { choice: "system", label: "As the system", icon: <ScreenIcon /> },
];

function ThemeMenu() {
  const current = useThemeChoice();
  const icon = THEMES.find(({ choice }) => choice === current)?.icon;
  return (
    <Menu
      trigger={<IconButton label="Theme">{icon}</IconButton>}
      items={THEMES.map(({ choice, label, icon: itsIcon }) => ({
        label,
        icon: itsIcon,
        isChecked: choice === current,
        onSelect: () => {
          setTheme(choice);
        },
      }))}
    />
  );
}
