/** A typed event emitter. A listener that throws is reported and does not keep the others from hearing. */
export declare class Emitter<Events extends object> {
    #private;
    /** Calls `listener` for each event of this type; the function returned takes it off again. */
    on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    /** As `on`, for one event. */
    once<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    off<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): void;
    protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void;
}
