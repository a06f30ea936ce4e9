"""The SQL tables of artifacts, as SQLAlchemy Core tables beside those of schema.py.

```
 artifacts ◄── artifact_versions ──► manifests ──► manifest_chunks ──► chunks ──► (packed lines name) contents ──► object
                 ▲          ▲             ▲                                                        ▲
   artifact_aliases   artifact_links   drafts ◄── draft_batches (packed lines) ────────────────────┘
```

Manifests, chunks and contents belong to a project and hold counts of what refers to them. Whoever changes a count has
locked the project's row first, so that no two do at once. Keys are not given again (SQLite would, for rows that are gone):
drafts remember the version that they became.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from runyard_server.storage.sql.schema import UInt64, metadata, name_type

NO_OBJECT_SQL = "object_key IS NULL"
UNUSED_SQL = "chunk_count = 0 AND batch_count = 0"
EXPIRING_SQL = "expire_time_unix_ns IS NOT NULL"


def _id_column(name: str) -> Column[int]:
    return Column(
        name, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )


artifact_projects = Table(
    "artifact_projects",
    metadata,
    _id_column("project_key"),
    Column("project_path", name_type(), nullable=False, unique=True),
    sqlite_autoincrement=True,
)

artifacts = Table(
    "artifacts",
    metadata,
    _id_column("artifact_key"),
    Column("project_key", BigInteger, ForeignKey("artifact_projects.project_key"), nullable=False),
    Column("name", name_type(), nullable=False),
    Column("type", name_type(), nullable=False),
    Column("next_number", BigInteger, nullable=False),
    Column("version_count", BigInteger, nullable=False),
    Column("latest_version_key", BigInteger),
    UniqueConstraint("project_key", "name"),
    sqlite_autoincrement=True,
)
"""Names; one without versions stays, so that no number is given twice."""

manifests = Table(
    "manifests",
    metadata,
    _id_column("manifest_key"),
    Column("project_key", BigInteger, ForeignKey("artifact_projects.project_key"), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("entry_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("use_count", BigInteger, nullable=False),
    UniqueConstraint("project_key", "digest"),
    sqlite_autoincrement=True,
)
"""Sets of entries; use_count is of versions and drafts."""

chunks = Table(
    "chunks",
    metadata,
    _id_column("chunk_key"),
    Column("project_key", BigInteger, ForeignKey("artifact_projects.project_key"), nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    Column("manifest_count", BigInteger, nullable=False),
    UniqueConstraint("project_key", "sha256"),
    sqlite_autoincrement=True,
)
"""Neighbouring entries; see domain/manifests.py."""

manifest_chunks = Table(
    "manifest_chunks",
    metadata,
    Column("manifest_key", BigInteger, ForeignKey("manifests.manifest_key"), primary_key=True),
    Column("first_path", name_type(), primary_key=True),
    # No foreign key: it would need an index of its own, and the count in chunks says the same.
    Column("chunk_key", BigInteger, nullable=False),
    Column("entry_count", Integer, nullable=False),
)

contents = Table(
    "contents",
    metadata,
    Column(
        "project_key",
        BigInteger,
        ForeignKey("artifact_projects.project_key"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("content_id", LargeBinary, primary_key=True),
    Column("object_key", Text),
    Column("chunk_count", BigInteger, nullable=False),
    Column("batch_count", BigInteger, nullable=False),
    Index(
        "ix_contents_missing",
        "project_key",
        sqlite_where=text(NO_OBJECT_SQL),
        postgresql_where=text(NO_OBJECT_SQL),
    ),
    Index(
        "ix_contents_unused",
        "project_key",
        sqlite_where=text(UNUSED_SQL),
        postgresql_where=text(UNUSED_SQL),
    ),
)
"""Contents that chunks and batches of drafts refer to; object_key is NULL until the bytes have arrived."""

artifact_versions = Table(
    "artifact_versions",
    metadata,
    _id_column("version_key"),
    Column("artifact_key", BigInteger, ForeignKey("artifacts.artifact_key"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("manifest_key", BigInteger, ForeignKey("manifests.manifest_key"), nullable=False),
    Column("added_bytes", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata_json", Text, nullable=False),
    Column("tags_json", Text, nullable=False),
    Column("run_key", UInt64),
    Column("run_path", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("update_time_unix_ns", BigInteger, nullable=False),
    Column("expire_time_unix_ns", BigInteger),
    UniqueConstraint("artifact_key", "number"),
    UniqueConstraint("artifact_key", "manifest_key"),
    Index("ix_artifact_versions_manifest", "manifest_key"),
    Index("ix_artifact_versions_run", "run_key"),
    Index(
        "ix_artifact_versions_expiring",
        "expire_time_unix_ns",
        sqlite_where=text(EXPIRING_SQL),
        postgresql_where=text(EXPIRING_SQL),
    ),
    sqlite_autoincrement=True,
)

artifact_aliases = Table(
    "artifact_aliases",
    metadata,
    Column(
        "artifact_key",
        BigInteger,
        ForeignKey("artifacts.artifact_key"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("alias", name_type(), primary_key=True),
    Column("version_key", BigInteger, ForeignKey("artifact_versions.version_key"), nullable=False),
    Index("ix_artifact_aliases_version", "version_key"),
)
"""All aliases but `latest`, which is in artifacts."""

artifact_links = Table(
    "artifact_links",
    metadata,
    Column("run_key", UInt64, primary_key=True, autoincrement=False),
    Column(
        "version_key",
        BigInteger,
        ForeignKey("artifact_versions.version_key"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("kind", Text, primary_key=True),
    Column("run_path", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Index("ix_artifact_links_version", "version_key"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("draft_id", Text, primary_key=True),
    Column("project_key", BigInteger, ForeignKey("artifact_projects.project_key"), nullable=False),
    Column("name", name_type(), nullable=False),
    Column("type", Text, nullable=False),
    Column("run_key", UInt64, nullable=False),
    Column("run_path", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("entry_count", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata_json", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("use_time_unix_ns", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("manifest_key", BigInteger, ForeignKey("manifests.manifest_key")),
    Column("is_committed", Boolean, nullable=False),
    Column("is_unchanged", Boolean, nullable=False),
    Column("version_key", BigInteger),
    UniqueConstraint("run_key", "request_id"),
    Index("ix_drafts_used", "use_time_unix_ns"),
    Index("ix_drafts_manifest", "manifest_key"),
)

draft_batches = Table(
    "draft_batches",
    metadata,
    Column("draft_id", Text, ForeignKey("drafts.draft_id"), primary_key=True),
    Column("sha256", LargeBinary, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("entry_count", Integer, nullable=False),
    Column("packed", LargeBinary, nullable=False),
)

content_uploads = Table(
    "content_uploads",
    metadata,
    Column("upload_id", Text, primary_key=True),
    Column("draft_id", Text, nullable=False),
    Column("project_key", BigInteger, ForeignKey("artifact_projects.project_key"), nullable=False),
    Column("content_id", LargeBinary, nullable=False),
    Column("object_key", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("part_bytes", BigInteger, nullable=False),
    Column("part_count", Integer, nullable=False),
    Column("part_md5s", LargeBinary, nullable=False),
    Column("multipart_id", Text, nullable=False),
    Column("create_time_unix_ns", BigInteger, nullable=False),
    Column("is_complete", Boolean, nullable=False),
    Index("ix_content_uploads_created", "create_time_unix_ns"),
    Index("ix_content_uploads_draft", "draft_id", "content_id"),
)

released_objects = Table(
    "released_objects",
    metadata,
    Column("object_key", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
)
"""Objects of contents that nothing refers to any more, until they are gone from the object store."""
