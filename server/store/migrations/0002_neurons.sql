PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_results` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`job_id` text NOT NULL,
	`job` text NOT NULL,
	`model_name` text NOT NULL,
	`model_hash` text NOT NULL,
	`generator_name` text,
	`generator_hash` text,
	`tokens` text,
	`unquantized` text,
	`device` text NOT NULL,
	`width` integer NOT NULL,
	`height` integer NOT NULL,
	`cos` real,
	`second_opinion` real,
	`text_concepts` text NOT NULL,
	`picture_concepts` text NOT NULL,
	`second_opinion_concepts` text NOT NULL,
	`neurons` text,
	`curve` text NOT NULL,
	`seconds` real NOT NULL,
	`notices` text NOT NULL,
	`image` text NOT NULL,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`job_id`) REFERENCES `jobs`(`id`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (`unquantized`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`image`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
INSERT INTO `__new_results`("seq", "id", "job_id", "job", "model_name", "model_hash", "generator_name", "generator_hash", "tokens", "unquantized", "device", "width", "height", "cos", "second_opinion", "text_concepts", "picture_concepts", "second_opinion_concepts", "curve", "seconds", "notices", "image", "created_at") SELECT "seq", "id", "job_id", "job", "model_name", "model_hash", "generator_name", "generator_hash", "tokens", "unquantized", "device", "width", "height", "cos", "second_opinion", "text_concepts", "picture_concepts", "second_opinion_concepts", "curve", "seconds", "notices", "image", "created_at" FROM `results`;--> statement-breakpoint
DROP TABLE `results`;--> statement-breakpoint
ALTER TABLE `__new_results` RENAME TO `results`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
CREATE UNIQUE INDEX `results_id_unique` ON `results` (`id`);--> statement-breakpoint
CREATE UNIQUE INDEX `results_job_id_unique` ON `results` (`job_id`);--> statement-breakpoint
CREATE INDEX `results_by_image` ON `results` (`image`);--> statement-breakpoint
CREATE INDEX `results_by_unquantized` ON `results` (`unquantized`);