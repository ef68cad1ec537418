"""Public reward-model score files: where they are, what they are, and their checksums."""

from __future__ import annotations

from typing import Final

from prefcal.datasets.registry import DataFile, Source

SOURCES: Final = {
    "RewardMATH_official": Source(
        repository="kimsh0507/RewardMATH_official",
        commit="cde06ab3f5466e1f94e74ba4fadf0e6561434ecb",
        licence="MIT",
        citation="S. Kim et al. Evaluating Robustness of Reward Models for Mathematical Reasoning. 2024.",
        folder="reward_models/RewardMATH_official",
    ),
    "themis-judge-reliability": Source(
        repository="sixijsu77-hub/themis-judge-reliability",
        commit="6307f315715b5fa877d430062c95cdcf4b0f0eea",
        licence="Apache-2.0",
        citation="S. Malik et al. RewardBench 2: Advancing Reward Model Evaluation. 2025 (the benchmark).",
        folder="reward_models/themis-judge-reliability",
    ),
}

# (source, path in the repository, bytes, sha256)
_FILES: Final = (
    (
        "RewardMATH_official",
        "results/RewardMATH/ArmoRM_reward.json",
        468724,
        "9a296e2e926b44e3ae0de5303bc131c0666827922eea36cb211b2231f01470ee",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/Eurus-RM_reward.json",
        452103,
        "5c40d3d01d326fa738fe84a0bd6f4a0f4d129d4a23a1b8e3310dc5e66f07ef70",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/Math_Shepherd_reward.json",
        1564789,
        "648582ee49b3f8c71d723e6273840bc913f15806709a9586950b53eb54e02331",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/ReasonEval_7B_reward.json",
        1563849,
        "cb7f3d1278d76ea5d7c839e35762824a29cd89e31bc7daeb63d2254203ff701e",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/beaver_reward.json",
        476713,
        "4ba4a8a2ccf8629ff2048914236455b282d228b8664f07baac3089d28a5affd9",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/gpt4o_reward.json",
        426538,
        "5569a3fb1b755c918d29ecaf4b4cc57f9eec868539853c05cf57a72a83e934bd",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/grm_gemma_reward.json",
        473096,
        "236ba955d5c2b2f32cd2b6d035b8e582c9f90cc7f8287571cf627b244f6ab0eb",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/grm_llama3_reward.json",
        471806,
        "c3311a466a9ad43f23d3f289cd8049b0cfae806e08bdc30142d7bee3b6894d5c",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/internlm2_20b_reward.json",
        479403,
        "0809bc8c56aa7091a2bbf28f44dc1d6a862f39371366483d8ccc9d4b91cf8d00",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/internlm2_reward.json",
        477896,
        "48ec59e8ce4062a72ca30ad0ceb691edc89393b8a7c6ce38ef8f09b6366e9885",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/llama3_8B_pairwise_reward.json",
        504661,
        "d919abfe87cd79a873f26486267e5e221ba68a98f6363d69c8170be7618dc4e7",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/oasst-rm_reward.json",
        477449,
        "575f24d45d0060f202578ce6c7768fab84e0b21ce48d2c3af15ab0955dc7780c",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/prometheus_7B_reward.json",
        424345,
        "7ff4e648c6549f157b6dfba71509592590a24d605275265c3d380d2cd3e2417e",
    ),
    (
        "RewardMATH_official",
        "results/RewardMATH/skywork_llama3_reward.json",
        452201,
        "f6eb5762f0e4ebd791bfdfa00e64029dec756b1d328715598abf766a9b27892e",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_ArmoRM.json",
        171925,
        "56274e14b4c733d7d3180a6b9fa6b7b87652d86ae290e92585d79aaefdae32bc",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_Eurus-RM.json",
        160437,
        "ddfaaa8f63ccc661076af911c02371f2400a0f9a9bcf2121e93dd035597fd0c5",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_GRM-Llama3-8B.json",
        172308,
        "5535d27945655c0ebd44bacfeaa344bf9881c0e9c8a695bd711bfd9e54a97577",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_GRM_Gemma_2B.json",
        172518,
        "c4e9ce79d65165839aae03f50790297d15e08c541d216d50de300c4585e8f6e8",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_Skywork-Llama-3.1-8B.json",
        168732,
        "6977175c08e445dcf15c80faf4a380363547a465baeae2370b6a24380a12c670",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_beaver.json",
        164651,
        "bc0c70d858cb67e36ba646071ac8a5313c065275f7399eac9d1afeb3e20102a4",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_internlm2-20b.json",
        173744,
        "97b0eb0a17e56990285e258d9605a0d66b42b89b1df974e2926c9cd13429a2fe",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_internlm2.json",
        172929,
        "5fb7b11c907bde43cd42227c716388fcbb999df9fa180a0a87d3a038c1d3647e",
    ),
    (
        "RewardMATH_official",
        "results/Rewardbench/rewardbench_oasst-rm.json",
        165479,
        "1e3f83c18a73ffd89a2c43eea59a2721e7d74769a045e282c3f31cf69875ede6",
    ),
    (
        "themis-judge-reliability",
        "results/gate/LxzGordon__URM-LLaMa-3.1-8B.jsonl",
        273876,
        "ef0c7033255bf2d17abf81a57bc0ba7b5420d020e620d4ded7c506ae98909f3d",
    ),
    (
        "themis-judge-reliability",
        "results/gate/Skywork__Skywork-Reward-V2-Llama-3.1-8B.jsonl",
        271788,
        "a85cabda54c66c7e542888d0e1c6e369660f20453d6f684e31b39767cc9dedf7",
    ),
    (
        "themis-judge-reliability",
        "results/gate/Skywork__Skywork-Reward-V2-Qwen3-8B.jsonl",
        276976,
        "fecefa10fe364b973ec76b4e075d532fad05c1da317a6b11baf6b3b456c75670",
    ),
)

FILES: Final = tuple(DataFile(SOURCES[source], path, size, sha256) for source, path, size, sha256 in _FILES)

# Classifiers score whole answers; the other RewardMATH files hold step probabilities, ratings or verdicts.
_NOT_CLASSIFIERS: Final = ("Math_Shepherd", "ReasonEval_7B", "gpt4o", "prometheus_7B", "llama3_8B_pairwise")


def rewardmath_classifiers() -> tuple[DataFile, ...]:
    """The nine classifier reward models on 483 problems with ten candidates each."""
    return tuple(
        f
        for f in FILES
        if f.path.startswith("results/RewardMATH/") and f.name.removesuffix("_reward.json") not in _NOT_CLASSIFIERS
    )
