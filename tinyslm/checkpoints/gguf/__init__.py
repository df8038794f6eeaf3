"""GGUF files, the format of llama.cpp: model, tokenizer and settings in one file."""
