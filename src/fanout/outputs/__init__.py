"""Places for outcomes and streamed replies: standard output, files, tables, objects in S3."""
