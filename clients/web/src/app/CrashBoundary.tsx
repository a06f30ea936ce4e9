// Catches what the page's own code throws, and says so instead of leaving an empty window.
import { Component, type ReactNode } from "react";
import { CrashPage } from "./pages";

interface State {
  readonly error: unknown;
  readonly hasFailed: boolean;
}

export class CrashBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: null, hasFailed: false };

  static getDerivedStateFromError(error: unknown): State {
    return { error, hasFailed: true };
  }

  override render(): ReactNode {
    return this.state.hasFailed ? <CrashPage error={this.state.error} /> : this.props.children;
  }
}
