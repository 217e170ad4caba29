    /** §{megabytes} MB, §{sha256} */
    §{constant}(
        "§{folder}/§{path}",
        §{name}Tensors.Input(
            width = §{width},
            height = §{height},
            type = §{name}Tensors.Type.§{input_type},
            mean = floatArrayOf(§{mean}),
            std = floatArrayOf(§{std}),
            scale = §{input_scale},
            zeroPoint = §{input_zero_point},
            blueFirst = §{blue_first},
            channelsFirst = §{channels_first},
        ),
        §{name}Tensors.Output(
            count = §{classes},
            type = §{name}Tensors.Type.§{output_type},
            scale = §{output_scale},
            zeroPoint = §{output_zero_point},
            function = §{name}Tensors.Function.§{function},
        ),
    ),
