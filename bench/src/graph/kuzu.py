"""Kùzu in its own process: loads the graph from CSV files, then answers lines of JSON with milliseconds."""
import json
import sys
import time

import kuzu

directory, twins, contains, feeds = sys.argv[1:5]
connection = kuzu.Connection(kuzu.Database(directory))
for statement in (
    "CREATE NODE TABLE Twin(id STRING, kind STRING, serial STRING, temperature DOUBLE, doc STRING, PRIMARY KEY(id))",
    "CREATE REL TABLE contains(FROM Twin TO Twin)",
    "CREATE REL TABLE feeds(FROM Twin TO Twin)",
    f'COPY Twin FROM "{twins}" (PARALLEL=FALSE)',
    f'COPY contains FROM "{contains}"',
    f'COPY feeds FROM "{feeds}"',
):
    connection.execute(statement)
print(json.dumps({"version": kuzu.__version__}), flush=True)

prepared = {}
for line in sys.stdin:
    question = json.loads(line)
    text = question["text"]
    if text not in prepared:
        prepared[text] = connection.prepare(text)
    start = time.perf_counter()
    rows = connection.execute(prepared[text], question["parameters"]).get_all()
    spent = (time.perf_counter() - start) * 1000
    first = rows[0][0] if rows and rows[0] else None
    print(json.dumps({"ms": spent, "rows": len(rows), "first": first}), flush=True)
