"""The frozen types, in the order in which data flows through a run.

neuron, images, evidence, explanation, scorecard; and chat, what language models are asked.
"""
