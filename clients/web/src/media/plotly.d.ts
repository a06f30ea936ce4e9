// The part of Plotly that is used here; its package has no types of its own.
declare module "plotly.js-strict-dist-min" {
  interface Figure {
    data: unknown[];
    layout: Record<string, unknown>;
    frames?: unknown[];
    config: Record<string, unknown>;
  }
  const Plotly: {
    react(host: HTMLElement, figure: Figure): Promise<unknown>;
    purge(host: HTMLElement): void;
  };
  export default Plotly;
}
