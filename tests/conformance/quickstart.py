import sys

import numpy as np
import tritonclient.grpc as grpcclient

client = grpcclient.InferenceServerClient(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001")
image = grpcclient.InferInput("INPUT__0", [1, 784], "FP32")
image.set_data_from_numpy(np.full((1, 784), 0.5, dtype=np.float32))
result = client.infer("mlp", [image])
print(result.as_numpy("OUTPUT__0").argmax())
