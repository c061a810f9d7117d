"""From a fine-tuned student to what runs elsewhere: code form, ONNX, torch.export."""
