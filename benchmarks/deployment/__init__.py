"""One student in every form it can take: file sizes, whether the forms agree, and times."""
