// Routes: which address shows which page. Pages with charts or tables come in pieces of their own, when first wanted.
import { QueryClientProvider } from "@tanstack/react-query";
import { Tooltip } from "radix-ui";
import { lazy, useState } from "react";
import { BrowserRouter, Navigate, Route, Routes, useLocation } from "react-router";
import { createQueryClient } from "../api/queries";
import { CrashBoundary } from "./CrashBoundary";
import { Frame } from "./Frame";
import { EntityPage, HomePage } from "./homePages";
import { NotFoundPage } from "./pages";

const ProjectLayout = lazy(async () => ({ default: (await import("./projectPages")).ProjectLayout }));
const ProjectOverviewPage = lazy(async () => ({ default: (await import("./projectPages")).ProjectOverviewPage }));
const ProjectWorkspacePage = lazy(async () => ({ default: (await import("./workspacePages")).ProjectWorkspacePage }));
const RunsPage = lazy(async () => ({ default: (await import("./runsPage")).RunsPage }));
const RunLayout = lazy(async () => ({ default: (await import("./runPages")).RunLayout }));
const RunOverviewPage = lazy(async () => ({ default: (await import("./runPages")).RunOverviewPage }));
const RunWorkspacePage = lazy(async () => ({ default: (await import("./workspacePages")).RunWorkspacePage }));
const RunSystemPage = lazy(async () => ({ default: (await import("./runPages")).RunSystemPage }));
const RunLogsPage = lazy(async () => ({ default: (await import("./runPages")).RunLogsPage }));
const RunFilesPage = lazy(async () => ({ default: (await import("./runPages")).RunFilesPage }));
const RunEventsPage = lazy(async () => ({ default: (await import("./runPages")).RunEventsPage }));
const RunWritersPage = lazy(async () => ({ default: (await import("./runPages")).RunWritersPage }));
const TrashPage = lazy(async () => ({ default: (await import("./trashPage")).TrashPage }));

const HINT_DELAY_MS = 350;

export function App() {
  const [client] = useState(createQueryClient);
  return (
    <QueryClientProvider client={client}>
      <Tooltip.Provider delayDuration={HINT_DELAY_MS}>
        <CrashBoundary>
          <BrowserRouter>
            <Pages />
          </BrowserRouter>
        </CrashBoundary>
      </Tooltip.Provider>
    </QueryClientProvider>
  );
}

function Pages() {
  return (
    <Routes>
      <Route element={<Frame />}>
        <Route index element={<HomePage />} />
        <Route path="trash" element={<TrashPage />} />
        <Route path=":entity" element={<EntityPage />} />
        <Route path=":entity/:project" element={<ProjectLayout />}>
          <Route index element={<ToPage page="workspace" />} />
          <Route path="overview" element={<ProjectOverviewPage />} />
          <Route path="workspace" element={<ProjectWorkspacePage />} />
          <Route path="runs" element={<RunsPage />} />
        </Route>
        <Route path=":entity/:project/runs/:run" element={<RunLayout />}>
          <Route index element={<ToPage page="workspace" />} />
          <Route path="overview" element={<RunOverviewPage />} />
          <Route path="workspace" element={<RunWorkspacePage />} />
          <Route path="system" element={<RunSystemPage />} />
          <Route path="logs" element={<RunLogsPage />} />
          <Route path="files" element={<RunFilesPage />} />
          <Route path="events" element={<RunEventsPage />} />
          <Route path="writers" element={<RunWritersPage />} />
        </Route>
        <Route path="*" element={<NotFoundPage />} />
      </Route>
    </Routes>
  );
}

/** Goes to a page beneath this address and keeps what the address says of the view. */
function ToPage({ page }: { page: string }) {
  const { search } = useLocation();
  return <Navigate to={`${page}${search}`} replace />;
}
