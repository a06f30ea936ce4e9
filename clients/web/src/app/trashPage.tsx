// The trash: deleted runs of all projects.
import { useEffect } from "react";
import { TrashList } from "../trash/TrashList";
import { CallError } from "./pages";

export function TrashPage() {
  useEffect(() => {
    document.title = "Trash · runyard";
  }, []);
  return <TrashList renderError={(error, retry) => <CallError error={error} onRetry={retry} />} />;
}
