package §{package}

/** The model files, best first, and how each is fed: written from the bundle's manifest. */
enum class §{name}Model(
    internal val path: String,
    internal val input: §{name}Tensors.Input,
    internal val output: §{name}Tensors.Output,
) {
§{entries}
    ;

    companion object {
        /** What is opened where nothing is said. */
        @JvmField
        val DEFAULT: §{name}Model = §{default}

        internal const val LABELS = "§{folder}/labels.txt"
        internal const val CLASSES = §{classes}
        internal val PREPROCESS = §{name}Preprocess(
            width = §{width},
            height = §{height},
            channels = §{channels},
            resize = §{name}Preprocess.Resize.§{resize},
            cropFraction = §{crop_fraction},
            filter = §{name}Preprocess.Filter.§{filter},
        )
    }
}
