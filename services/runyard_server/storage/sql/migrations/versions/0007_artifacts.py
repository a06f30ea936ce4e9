"""Artifacts: versions, their manifests in chunks, contents with counts, drafts and uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Applies the migration."""
    _make_contents()
    _make_manifests()
    _make_artifacts()
    _make_versions()
    _make_links()
    _make_drafts()
    _make_uploads()


def _make_contents() -> None:
    op.create_table(
        "artifact_projects",
        sa.Column("project_key", _ID, autoincrement=True, nullable=False),
        sa.Column("project_path", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("project_key", name=op.f("pk_artifact_projects")),
        sa.UniqueConstraint("project_path", name=op.f("uq_artifact_projects_project_path")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "contents",
        sa.Column("project_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content_id", sa.LargeBinary(), nullable=False),
        sa.Column("object_key", sa.Text()),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("batch_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_contents_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("project_key", "content_id", name=op.f("pk_contents")),
    )
    op.create_index(
        "ix_contents_missing",
        "contents",
        ["project_key"],
        sqlite_where=sa.text("object_key IS NULL"),
        postgresql_where=sa.text("object_key IS NULL"),
    )
    op.create_index(
        "ix_contents_unused",
        "contents",
        ["project_key"],
        sqlite_where=sa.text("chunk_count = 0 AND batch_count = 0"),
        postgresql_where=sa.text("chunk_count = 0 AND batch_count = 0"),
    )


def _make_manifests() -> None:
    op.create_table(
        "chunks",
        sa.Column("chunk_key", _ID, autoincrement=True, nullable=False),
        sa.Column("project_key", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.Column("manifest_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_chunks_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("chunk_key", name=op.f("pk_chunks")),
        sa.UniqueConstraint("project_key", "sha256", name=op.f("uq_chunks_project_key_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "manifests",
        sa.Column("manifest_key", _ID, autoincrement=True, nullable=False),
        sa.Column("project_key", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("entry_count", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("use_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_manifests_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("manifest_key", name=op.f("pk_manifests")),
        sa.UniqueConstraint("project_key", "digest", name=op.f("uq_manifests_project_key_digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "manifest_chunks",
        sa.Column("manifest_key", sa.BigInteger(), nullable=False),
        sa.Column("first_path", _NAME, nullable=False),
        sa.Column("chunk_key", sa.BigInteger(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["manifest_key"],
            ["manifests.manifest_key"],
            name=op.f("fk_manifest_chunks_manifest_key_manifests"),
        ),
        sa.PrimaryKeyConstraint("manifest_key", "first_path", name=op.f("pk_manifest_chunks")),
    )


def _make_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("artifact_key", _ID, autoincrement=True, nullable=False),
        sa.Column("project_key", sa.BigInteger(), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("type", _NAME, nullable=False),
        sa.Column("next_number", sa.BigInteger(), nullable=False),
        sa.Column("version_count", sa.BigInteger(), nullable=False),
        sa.Column("latest_version_key", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_artifacts_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("artifact_key", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("project_key", "name", name=op.f("uq_artifacts_project_key_name")),
        sqlite_autoincrement=True,
    )


def _make_versions() -> None:
    op.create_table(
        "artifact_versions",
        sa.Column("version_key", _ID, autoincrement=True, nullable=False),
        sa.Column("artifact_key", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("manifest_key", sa.BigInteger(), nullable=False),
        sa.Column("added_bytes", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata_json", sa.Text(), nullable=False),
        sa.Column("tags_json", sa.Text(), nullable=False),
        sa.Column("run_key", sa.BigInteger()),
        sa.Column("run_path", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("update_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("expire_time_unix_ns", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["artifact_key"],
            ["artifacts.artifact_key"],
            name=op.f("fk_artifact_versions_artifact_key_artifacts"),
        ),
        sa.ForeignKeyConstraint(
            ["manifest_key"],
            ["manifests.manifest_key"],
            name=op.f("fk_artifact_versions_manifest_key_manifests"),
        ),
        sa.PrimaryKeyConstraint("version_key", name=op.f("pk_artifact_versions")),
        sa.UniqueConstraint(
            "artifact_key",
            "manifest_key",
            name=op.f("uq_artifact_versions_artifact_key_manifest_key"),
        ),
        sa.UniqueConstraint(
            "artifact_key", "number", name=op.f("uq_artifact_versions_artifact_key_number")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_artifact_versions_expiring",
        "artifact_versions",
        ["expire_time_unix_ns"],
        sqlite_where=sa.text("expire_time_unix_ns IS NOT NULL"),
        postgresql_where=sa.text("expire_time_unix_ns IS NOT NULL"),
    )
    op.create_index("ix_artifact_versions_manifest", "artifact_versions", ["manifest_key"])
    op.create_index("ix_artifact_versions_run", "artifact_versions", ["run_key"])


def _make_links() -> None:
    op.create_table(
        "artifact_aliases",
        sa.Column("artifact_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.Column("version_key", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_key"],
            ["artifacts.artifact_key"],
            name=op.f("fk_artifact_aliases_artifact_key_artifacts"),
        ),
        sa.ForeignKeyConstraint(
            ["version_key"],
            ["artifact_versions.version_key"],
            name=op.f("fk_artifact_aliases_version_key_artifact_versions"),
        ),
        sa.PrimaryKeyConstraint("artifact_key", "alias", name=op.f("pk_artifact_aliases")),
    )
    op.create_index("ix_artifact_aliases_version", "artifact_aliases", ["version_key"])
    op.create_table(
        "artifact_links",
        sa.Column(
            "run_key",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("version_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_path", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_key"],
            ["artifact_versions.version_key"],
            name=op.f("fk_artifact_links_version_key_artifact_versions"),
        ),
        sa.PrimaryKeyConstraint("run_key", "version_key", "kind", name=op.f("pk_artifact_links")),
    )
    op.create_index("ix_artifact_links_version", "artifact_links", ["version_key"])


def _make_drafts() -> None:
    op.create_table(
        "drafts",
        sa.Column("draft_id", sa.Text(), nullable=False),
        sa.Column("project_key", sa.BigInteger(), nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("run_key", sa.BigInteger(), nullable=False),
        sa.Column("run_path", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("entry_count", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("metadata_json", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("use_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("manifest_key", sa.BigInteger()),
        sa.Column("is_committed", sa.Boolean(), nullable=False),
        sa.Column("is_unchanged", sa.Boolean(), nullable=False),
        sa.Column("version_key", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["manifest_key"],
            ["manifests.manifest_key"],
            name=op.f("fk_drafts_manifest_key_manifests"),
        ),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_drafts_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("draft_id", name=op.f("pk_drafts")),
        sa.UniqueConstraint("run_key", "request_id", name=op.f("uq_drafts_run_key_request_id")),
    )
    op.create_index("ix_drafts_manifest", "drafts", ["manifest_key"])
    op.create_index("ix_drafts_used", "drafts", ["use_time_unix_ns"])
    op.create_table(
        "draft_batches",
        sa.Column("draft_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["draft_id"], ["drafts.draft_id"], name=op.f("fk_draft_batches_draft_id_drafts")
        ),
        sa.PrimaryKeyConstraint("draft_id", "sha256", name=op.f("pk_draft_batches")),
    )


def _make_uploads() -> None:
    op.create_table(
        "content_uploads",
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("draft_id", sa.Text(), nullable=False),
        sa.Column("project_key", sa.BigInteger(), nullable=False),
        sa.Column("content_id", sa.LargeBinary(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_count", sa.Integer(), nullable=False),
        sa.Column("part_md5s", sa.LargeBinary(), nullable=False),
        sa.Column("multipart_id", sa.Text(), nullable=False),
        sa.Column("create_time_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_key"],
            ["artifact_projects.project_key"],
            name=op.f("fk_content_uploads_project_key_artifact_projects"),
        ),
        sa.PrimaryKeyConstraint("upload_id", name=op.f("pk_content_uploads")),
    )
    op.create_index("ix_content_uploads_created", "content_uploads", ["create_time_unix_ns"])
    op.create_index("ix_content_uploads_draft", "content_uploads", ["draft_id", "content_id"])
    op.create_table(
        "released_objects",
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_released_objects")),
    )
