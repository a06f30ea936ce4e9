// The run that the address names.
import { useRun } from "../api/queries";
import type { Run } from "../api/types";
import { usePlace } from "./paths";

/** The run of this address; RunLayout has dealt with its absence. */
export function useThisRun(): Run | undefined {
  const { runPath } = usePlace();
  return useRun(runPath).data;
}
