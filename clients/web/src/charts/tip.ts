// The box beside the pointer: what the lines are at this x. Plain DOM, one for the whole page.

export interface TipRow {
  readonly label: string;
  readonly colour: string;
  readonly value: string;
  readonly note: string;
  readonly isNearest: boolean;
}

export interface TipContent {
  readonly title: string;
  readonly rows: readonly TipRow[];
  readonly more: string;
}

let box: HTMLDivElement | null = null;

/** Shows the box beside a point of the window, inside the window. */
export function showTip(content: TipContent, x: number, y: number): void {
  box ??= document.body.appendChild(element("div", "chart-tip"));
  box.replaceChildren(element("div", "chart-tip-title", content.title));
  for (const row of content.rows) {
    const line = box.appendChild(element("div", row.isNearest ? "chart-tip-row nearest" : "chart-tip-row"));
    const swatch = line.appendChild(element("i", "chart-tip-swatch"));
    swatch.style.background = row.colour;
    line.append(
      element("span", "chart-tip-label", row.label),
      element("span", "chart-tip-value", row.value),
    );
    if (row.note !== "") line.append(element("span", "chart-tip-note", row.note));
  }
  if (content.more !== "") box.append(element("div", "chart-tip-more", content.more));
  box.style.display = "block";
  const { offsetWidth: width, offsetHeight: height } = box;
  const left = x + 16 + width > window.innerWidth - 8 ? x - 16 - width : x + 16;
  const top = Math.min(Math.max(8, y + 14), window.innerHeight - height - 8);
  box.style.transform = `translate(${String(Math.round(Math.max(8, left)))}px, ${String(Math.round(top))}px)`;
}

export function hideTip(): void {
  if (box !== null) box.style.display = "none";
}

function element<K extends keyof HTMLElementTagNameMap>(tag: K, name: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = name;
  if (text !== "") made.textContent = text;
  return made;
}
