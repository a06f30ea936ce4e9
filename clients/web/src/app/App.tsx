// Routes: which address shows which page.
import { QueryClientProvider } from "@tanstack/react-query";
import { Tooltip } from "radix-ui";
import { useState } from "react";
import { createBrowserRouter, Navigate, RouterProvider, useLocation } from "react-router";
import { createQueryClient } from "../api/queries";
import { Frame } from "./Frame";
import { CrashPage, NotFoundPage } from "./pages";
import { EntityPage, HomePage, ProjectLayout, ProjectOverviewPage, ProjectWorkspacePage, RunsPage } from "./projectPages";
import { RunEventsPage, RunFilesPage, RunLayout, RunOverviewPage, RunWorkspacePage } from "./runPages";

/** Goes to a page beneath this address and keeps what the address says of the view. */
function ToPage({ page }: { page: string }) {
  const { search } = useLocation();
  return <Navigate to={`${page}${search}`} replace />;
}

const router = createBrowserRouter([
  {
    element: <Frame />,
    errorElement: <CrashPage />,
    children: [
      { index: true, element: <HomePage /> },
      { path: ":entity", element: <EntityPage /> },
      {
        path: ":entity/:project/runs/:run",
        element: <RunLayout />,
        children: [
          { index: true, element: <ToPage page="workspace" /> },
          { path: "overview", element: <RunOverviewPage /> },
          { path: "workspace", element: <RunWorkspacePage /> },
          { path: "files", element: <RunFilesPage /> },
          { path: "events", element: <RunEventsPage /> },
        ],
      },
      {
        path: ":entity/:project",
        element: <ProjectLayout />,
        children: [
          { index: true, element: <ToPage page="workspace" /> },
          { path: "overview", element: <ProjectOverviewPage /> },
          { path: "workspace", element: <ProjectWorkspacePage /> },
          { path: "runs", element: <RunsPage /> },
        ],
      },
      { path: "*", element: <NotFoundPage /> },
    ],
  },
]);

const HINT_DELAY_MS = 350;

export function App() {
  const [client] = useState(createQueryClient);
  return (
    <QueryClientProvider client={client}>
      <Tooltip.Provider delayDuration={HINT_DELAY_MS}>
        <RouterProvider router={router} />
      </Tooltip.Provider>
    </QueryClientProvider>
  );
}
