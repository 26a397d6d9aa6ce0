"""Makes pydantic models (datamodel-code-generator) from the schemas in a folder, and has them read its values.

`models.py FOLDER`: the folder has TOPIC.json, and values in TOPIC/.
"""

import importlib.util
import json
import pathlib
import subprocess
import sys

folder = pathlib.Path(sys.argv[1])
for topic in ("orders", "invoices"):
    module = folder / f"{topic}.py"
    wanted = {
        "--input": folder / f"{topic}.json",
        "--input-file-type": "jsonschema",
        "--output": module,
        "--output-model-type": "pydantic_v2.BaseModel",
        "--class-name": "Event",
        "--target-python-version": "3.11",
        "--formatters": "builtin",
    }
    generator = pathlib.Path(sys.executable).with_name("datamodel-codegen")
    subprocess.run([generator, *(word for pair in wanted.items() for word in pair)], check=True)
    spec = importlib.util.spec_from_file_location(topic, module)
    models = importlib.util.module_from_spec(spec)
    sys.modules[topic] = models
    spec.loader.exec_module(models)
    values = [path.read_text() for path in sorted((folder / topic).iterdir())]
    for value in values:
        event = models.Event.model_validate_json(value)
        event = getattr(event, "root", event)
        assert event.event_id == json.loads(value)["event_id"], value
    print(f"{topic}: Python read {len(values)} values")
