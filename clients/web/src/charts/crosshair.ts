// One crosshair over all panels of a page: where it stands in one, it stands in the others.

export interface CrosshairMember {
  /** Shows the line at this x; null hides it. */
  showCrosshair(x: number | null): void;
}

/** Passes the position from the panel under the pointer to all others. */
export class Crosshair {
  private readonly members = new Set<CrosshairMember>();

  join(member: CrosshairMember): () => void {
    this.members.add(member);
    return () => this.members.delete(member);
  }

  publish(from: CrosshairMember, x: number | null): void {
    for (const member of this.members) if (member !== from) member.showCrosshair(x);
  }
}
