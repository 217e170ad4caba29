package §{package}

/** The models, best first, with the input and output of each as the bundle's manifest describes them. */
enum class §{name}Model(
    internal val path: String,
    internal val input: §{name}Tensors.Input,
    internal val output: §{name}Tensors.Output,
) {
§{entries}
    ;

    companion object {
        /** The model that is opened by default. */
        @JvmField
        val DEFAULT: §{name}Model = §{default}

        internal const val LABELS = "§{folder}/labels.txt"
        internal const val NAMES = §{names_count}
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
