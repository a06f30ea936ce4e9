// Pictures, sound, films and documents, straight from the object store, which is another origin than this page.
import { useState } from "react";
import { ErrorBox } from "../ui/feedback";
import type { Kind } from "./kind";

export function MediaView({ kind, url, name }: { kind: Kind; url: string; name: string }) {
  const [hasFailed, setFailed] = useState(false);
  const [size, setSize] = useState("");
  const fail = (): void => {
    setFailed(true);
  };
  if (hasFailed) {
    return (
      <ErrorBox
        title="This file cannot be shown"
        detail="The browser does not know its format, or the object store does not answer. Download the file to open it."
      />
    );
  }
  if (kind === "image") {
    return (
      <figure className="file-image card">
        {/* Scripts of an SVG do not run in a picture. */}
        <img
          src={url}
          alt={name}
          onError={fail}
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => {
            setSize(`${naturalWidth} × ${naturalHeight}`);
          }}
        />
        <figcaption className="muted number">{size}</figcaption>
      </figure>
    );
  }
  if (kind === "audio") return <audio className="file-audio" src={url} controls onError={fail} />;
  if (kind === "video") return <video className="file-video card" src={url} controls onError={fail} />;
  return <iframe className="file-document card" src={url} title={name} />;
}
